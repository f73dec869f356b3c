//! Tells Tauri where the Kotlin part is.

/// None: the screen asks the app, and the app asks this plugin, in Rust.
const COMMANDS: &[&str] = &[];

fn main() {
    tauri_plugin::Builder::new(COMMANDS)
        .android_path("android")
        .build();
}
