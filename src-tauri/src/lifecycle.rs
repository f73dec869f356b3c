//! What the system does with the app: it opens it by a link, sends it behind others, and ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use tauri::webview::{PageLoadEvent, PageLoadPayload};
use tauri::{App, AppHandle, Manager, RunEvent, Runtime, Webview, WindowEvent};
use tauri_plugin_deep_link::DeepLinkExt;
#[cfg(target_os = "ios")]
use tauri_plugin_device::{DeviceExt, Place};

use crate::arguments::is_link;
#[cfg(all(desktop, unix))]
use crate::instance::Instance;
use crate::session::{Session, Turn};
use crate::watchers::Watchers;

/// Whether the session is being ended, or has been.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Hears of links that open the app: those on its command line, the one that started it otherwise, and those that come
/// later.
pub fn hear_links(app: &App, links: Vec<String>) {
    let session = app.state::<Session>().inner().clone();
    open_links(&session, links);
    // Where links come on the command line, the plugin sees one only if it is alone there.
    let is_command_line = cfg!(any(target_os = "linux", windows));
    if !is_command_line && let Ok(Some(urls)) = app.deep_link().get_current() {
        open_links(&session, urls.iter().map(url::Url::to_string));
    }

    app.deep_link().on_open_url(move |event| {
        open_links(&session, event.urls().iter().map(url::Url::to_string));
    });
}

/// Has the system open links with this app, where no installer has seen to that: beside everything else, because other
/// programs are started for it.
#[cfg(any(target_os = "linux", windows))]
pub fn take_links(app: &App) {
    let app = app.handle().clone();

    tauri::async_runtime::spawn_blocking(move || {
        if let Err(error) = app.deep_link().register_all() {
            tracing::info!(%error, "The system does not open links with this app");
        }
    });
}

fn open_links(session: &Session, links: impl IntoIterator<Item = String>) {
    for link in links.into_iter().filter(|link| is_link(link)) {
        session.turn(Turn::Opened(link));
    }
}

/// Hears of further starts of the app: its window comes to the front, and takes their links.
#[cfg(all(desktop, unix))]
pub fn hear_starts(app: &App, instance: Instance) -> std::io::Result<()> {
    let app = app.handle().clone();

    instance.listen(move |links| {
        if ENDING.load(Ordering::Relaxed) {
            return false;
        }
        open_links(&app.state::<Session>(), links);
        for window in app.webview_windows().values() {
            let shown = window.unminimize().and_then(|()| window.show());
            if let Err(error) = shown.and_then(|()| window.set_focus()) {
                tracing::warn!(%error, "The window does not come to the front");
            }
        }
        true
    })
}

/// The window shows a page anew: what the old one watched, nobody hears any more.
pub fn page_loads<R: Runtime>(webview: &Webview<R>, load: &PageLoadPayload<'_>) {
    if load.event() == PageLoadEvent::Started {
        webview.state::<Watchers>().end_all();
    }
}

/// Takes note of what happens to the app.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "Tauri takes care of the others"
)]
pub fn happens(app: &AppHandle, event: RunEvent) {
    match event {
        RunEvent::ExitRequested { code, api, .. } if !ENDING.swap(true, Ordering::Relaxed) => {
            api.prevent_exit();
            end(app.clone(), code.unwrap_or(0));
        }
        RunEvent::WindowEvent { event, .. } => {
            if let Some(turn) = turn_of(&event)
                && let Some(session) = app.try_state::<Session>()
            {
                session.turn(turn);
            }
        }
        _ => {}
    }
}

/// Returns what a phone's system does with the app, if its window is told of it. Desktops let it be. Android does, too, as
/// long as it serves its group, and may come back from the settings with other permissions.
#[cfg(target_os = "android")]
fn turn_of(event: &WindowEvent) -> Option<Turn> {
    matches!(event, WindowEvent::Resumed).then_some(Turn::Resumed)
}

#[cfg(not(target_os = "android"))]
fn turn_of(_: &WindowEvent) -> Option<Turn> {
    None
}

/// Leaves the group while the app is put away, and comes back with it: iOS stops an app that is not in front. What its
/// window hears is of no use for that: it is `Suspended` by every question that the system lays over it, and `Resumed`
/// only when it was put away.
#[cfg(target_os = "ios")]
pub fn follow_places(app: &App) {
    let session = app.state::<Session>().inner().clone();
    let (told, mut places) = tokio::sync::mpsc::unbounded_channel();
    app.device().follow_places(move |place| {
        let _ = told.send(place); // the app may be ending
    });

    tauri::async_runtime::spawn(async move {
        while let Some(place) = places.recv().await {
            match place {
                Place::Front => session.turn(Turn::Resumed),
                Place::Behind(grace) => {
                    session.suspend().await;
                    drop(grace);
                }
            }
        }
    });
}

/// Ends the session, and then the app: answers are kept, and other phones are told.
fn end(app: AppHandle, code: i32) {
    tauri::async_runtime::spawn(async move {
        if let Some(session) = app.try_state::<Session>() {
            session.end().await;
        }
        app.exit(code);
    });
}
