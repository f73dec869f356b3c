//! The app: what a screen can ask of this phone, and what it hears from it.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`api`] | the words between a screen and this program |
//! | [`session`] | the app without its window: one task that owns everything |
//! | [`view`] | what this phone knows of others, folded from the node's events; pure |
//! | [`answering`] | what the model is asked, and what comes of it; pure |
//! | [`history`] | what was said on this phone |
//! | [`models`] | models: which there are, downloads, imports, whether they fit |
//! | [`platform`], [`window`] | what the system gives, and who gives it where there is a window |
//! | [`commands`], [`watchers`] | the window's side: commands of a line or two, and streams |
//! | [`arguments`], `instance`, [`logs`], [`clock`] | how it is started, whether it runs already, what it logs, what time it is |

// `mobile_entry_point` adds a function that says nothing of itself.
#![cfg_attr(mobile, allow(missing_docs))]

pub mod answering;
pub mod api;
pub mod arguments;
pub mod clock;
mod commands;
pub mod history;
#[cfg(all(desktop, unix))]
pub mod instance;
mod lifecycle;
mod logs;
pub mod models;
pub mod platform;
#[cfg(mobile)]
mod scanner;
pub mod session;
pub mod view;
mod watchers;
mod window;

#[cfg(all(desktop, unix))]
use std::io::Write;
use std::sync::Arc;

use tauri::webview::WebviewWindowBuilder;
use tauri::{App, AppHandle, Manager, WebviewUrl};
use tauri_plugin_dialog::{DialogExt, MessageDialogKind};

use arguments::Arguments;
use session::{Config, Session};
use watchers::Watchers;
use window::Window;

/// Opens the window and runs until it is closed.
///
/// # Panics
///
/// If the system gives no window.
#[cfg_attr(mobile, tauri::mobile_entry_point)]
pub fn run() {
    let arguments = Arguments::read();
    let context: tauri::Context<tauri::Wry> = tauri::generate_context!();
    #[cfg(all(desktop, unix))]
    let Some(instance) = first_of(&arguments, &context.config().identifier) else {
        return;
    };

    #[cfg(target_os = "linux")]
    need_display();

    let app = tauri::Builder::default()
        .plugin(tauri_plugin_dialog::init())
        .plugin(
            tauri_plugin_opener::Builder::new()
                .open_js_links_on_click(false)
                .build(),
        )
        .plugin(tauri_plugin_deep_link::init())
        .plugin(tauri_plugin_device::init());
    #[cfg(mobile)]
    let app = app.plugin(scanner::init());

    app.manage(Watchers::default())
        .on_page_load(lifecycle::page_loads)
        .invoke_handler(commands::handler())
        .setup(move |app| {
            if let Err(error) = set_up(app, arguments) {
                tracing::error!(%error, "The app cannot start");
                refuse(app.handle(), &error);
                return Ok(());
            }
            #[cfg(all(desktop, unix))]
            lifecycle::hear_starts(app, instance)?;
            Ok(())
        })
        .build(context)
        .expect("a window can be opened")
        .run(lifecycle::happens);
}

/// Ends the program where no window can be opened: Tauri would panic.
#[cfg(target_os = "linux")]
fn need_display() {
    if gtk::init().is_err() {
        let why = "There is no display here that can be opened. Run this in a desktop session.";
        let _ = writeln!(std::io::stderr(), "{why}"); // there may be nobody who reads it
        std::process::exit(1)
    }
}

/// Takes the data folder; `None` if an app that has it has taken over. Ends the program if it does not answer.
///
/// Before anything else: a second app has no business with the first one's files, not even with its log.
#[cfg(all(desktop, unix))]
fn first_of(arguments: &Arguments, identifier: &str) -> Option<instance::Instance> {
    // As Tauri has it.
    let usual = || dirs::data_dir().map(|folder| folder.join(identifier));
    let data = arguments.data.clone().or_else(usual);
    let start = data.ok_or_else(|| anyhow::anyhow!("the system has no folder for data"));
    let start = start.and_then(|data| {
        session::make_folder(&data)?;
        Ok(instance::start(&data, &arguments.links)?)
    });

    match start {
        Ok(instance::Start::First(instance)) => Some(instance),
        Ok(instance::Start::HandedOver) => None,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}"); // there may be nobody who reads it
            std::process::exit(1)
        }
    }
}

/// Begins the session, and opens the window on it.
fn set_up(app: &mut App, arguments: Arguments) -> anyhow::Result<()> {
    // One that was told where its data is was not started by a person: what it would be asked to open is the usual one's.
    #[cfg(any(target_os = "linux", windows))]
    if arguments.data.is_none() && !cfg!(debug_assertions) {
        lifecycle::take_links(app);
    }
    let data = match arguments.data {
        Some(data) => data,
        None => app.path().app_data_dir()?,
    };
    logs::start(&data);
    let config = Config {
        data,
        listen: None,
        sources: node::discovery::Sources {
            mdns: true,
            dns_sd: true,
        },
        models: models::Sources::from_env()?,
    };

    let platform = Arc::new(Window::new(app.handle().clone()));
    let opened = tauri::async_runtime::block_on(Session::open(config, platform));
    let (session, _) = opened?;
    app.manage(session);
    lifecycle::hear_links(app, arguments.links);
    #[cfg(target_os = "ios")]
    lifecycle::follow_places(app);
    open_window(app)
}

/// Says why the app cannot start, and ends it. Tauri would panic, and who opened it would see nothing.
fn refuse(app: &AppHandle, error: &anyhow::Error) {
    let dialog = app.dialog().message(format!("{error:#}"));
    let dialog = dialog
        .title("LinguaLinked cannot start")
        .kind(MessageDialogKind::Error);
    let app = app.clone();

    dialog.show(move |_| app.exit(1));
}

/// Opens the one window, which shows our own pages and nothing else.
fn open_window(app: &App) -> anyhow::Result<()> {
    let window = app.config().app.windows.first();
    let window = window.ok_or_else(|| anyhow::anyhow!("the app has no window"))?;
    anyhow::ensure!(
        matches!(window.url, WebviewUrl::App(_)),
        "the window would show somebody else's page"
    );

    let builder = WebviewWindowBuilder::from_config(app, window)?;
    builder.on_navigation(is_ours).build()?;
    Ok(())
}

/// Returns whether a page is one of ours.
fn is_ours(url: &url::Url) -> bool {
    let is_local = |host| host == "localhost" || host == "tauri.localhost";

    match url.scheme() {
        "tauri" => true,
        "http" | "https" => url.host_str().is_some_and(is_local),
        _ => url.as_str() == "about:blank",
    }
}
