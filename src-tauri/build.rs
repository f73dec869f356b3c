//! Hands the app's settings to the program.

fn main() {
    // What the window shows becomes part of the program.
    println!("cargo:rerun-if-changed=../ui/dist");
    tauri_build::build();
}
