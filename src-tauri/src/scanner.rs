//! Reading a code with the camera, by the plugin of that name. Its own interface is for pages only, so its native part is
//! asked here.
//!
//! It is asked only where there is a camera that the app may use: without one its Android part never answers, and its iOS
//! part ends the app.

use serde::{Deserialize, Serialize};
use tauri::plugin::{Builder, PluginHandle, TauriPlugin};
use tauri::{AppHandle, Manager, Wry};

use crate::api::{Problem, ScanResult};

#[cfg(target_os = "ios")]
tauri::ios_plugin_binding!(init_plugin_barcode_scanner);

/// The plugin's native part.
struct Scanner(PluginHandle<Wry>);

/// What it is asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    formats: [&'static str; 1],
    windowed: bool,
}

/// What it saw.
#[derive(Deserialize)]
struct Seen {
    content: String,
}

/// Makes the plugin.
pub fn init() -> TauriPlugin<Wry> {
    Builder::new("scanner")
        .setup(|app, api| {
            #[cfg(target_os = "android")]
            let handle =
                api.register_android_plugin("app.tauri.barcodescanner", "BarcodeScannerPlugin")?;
            #[cfg(target_os = "ios")]
            let handle = api.register_ios_plugin(init_plugin_barcode_scanner)?;
            app.manage(Scanner(handle));
            Ok(())
        })
        .build()
}

/// Lets a person hold a code before the camera. Its picture lies behind the page: in front of it, nobody could cancel.
pub async fn scan(app: &AppHandle) -> Result<ScanResult, Problem> {
    let options = Options {
        formats: ["QR_CODE"],
        windowed: true,
    };
    let scanner = app.state::<Scanner>();
    let seen = scanner.0.run_mobile_plugin_async::<Seen>("scan", options);

    match seen.await {
        Ok(seen) => Ok(ScanResult::Scanned { text: seen.content }),
        Err(error) => {
            tracing::info!(%error, "No code was scanned");
            Ok(ScanResult::Cancelled)
        }
    }
}

/// Ends a scan that is under way, which is then refused.
pub async fn cancel(app: &AppHandle) -> Result<(), Problem> {
    let scanner = app.state::<Scanner>();
    let cancelled = scanner.0.run_mobile_plugin_async::<()>("cancel", ());

    cancelled.await.map_err(Problem::other)
}
