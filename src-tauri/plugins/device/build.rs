//! Tells Tauri where the Kotlin part is, and iOS what memory a model needs.

/// None: the screen asks the app, and the app asks this plugin, in Rust.
const COMMANDS: &[&str] = &[];

fn main() {
    tauri_plugin::Builder::new(COMMANDS)
        .android_path("android")
        .build();
    #[cfg(target_os = "macos")]
    entitle();
}

/// Asks for more memory than iOS gives to any app, and for addresses enough to map a model file.
///
/// Does nothing but where `tauri ios` builds, which is on a Mac.
#[cfg(target_os = "macos")]
fn entitle() {
    let wanted = [
        "com.apple.developer.kernel.increased-memory-limit",
        "com.apple.developer.kernel.extended-virtual-addressing",
    ];

    tauri_plugin::mobile::update_entitlements(|entitlements| {
        for entitlement in wanted {
            entitlements.insert(entitlement.into(), true.into());
        }
    })
    .expect("the project that `tauri ios init` made has an entitlements file");
}
