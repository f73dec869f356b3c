//! Reading a code with the camera, by the plugin of that name. Its own interface is for pages only, so its native part is
//! asked here.

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

/// Lets a person hold a code before the camera.
pub async fn scan(app: &AppHandle) -> Result<ScanResult, Problem> {
    let options = Options {
        formats: ["QR_CODE"],
        windowed: false,
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
