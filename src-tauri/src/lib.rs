//! The app: what a screen can ask of this phone, and what it hears from it.

pub mod api;
pub mod models;

/// Opens the window and runs until it is closed.
#[cfg_attr(mobile, tauri::mobile_entry_point)]
pub fn run() {
    tauri::Builder::default()
        .run(tauri::generate_context!())
        .expect("a window can be opened");
}
