//! Hands the app's settings to the program.

fn main() {
    tauri_build::build();
}
