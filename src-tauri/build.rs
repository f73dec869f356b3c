//! Hands the app's settings to the program, and makes a permission of each of its commands.

use tauri_build::{AppManifest, Attributes};

/// What the window may ask; `capabilities/main.json` allows it.
const COMMANDS: &[&str] = &[
    "rename",
    "welcome",
    "change_setting",
    "look",
    "knock",
    "start_group",
    "pair",
    "confirm",
    "refuse",
    "invite",
    "close_invite",
    "use_invite",
    "put_away_invite",
    "leave",
    "remove",
    "hand_over",
    "exclude",
    "block",
    "unblock",
    "download",
    "pause_download",
    "delete_model",
    "start",
    "stop",
    "rename_conversation",
    "delete_conversation",
    "delete_message",
    "configure_conversation",
    "stop_answer",
    "watch_state",
    "watch_notices",
    "watch_beats",
    "unwatch",
    "ask",
    "watch_answer",
    "create_conversation",
    "load_conversation",
    "search",
    "forecast",
    "import_model",
    "diagnostics",
    "request_permission",
    "open_system_settings",
    "scan_qr",
    "cancel_scan",
    "save_file",
    "open_link",
];

fn main() {
    // What the window shows becomes part of the program.
    println!("cargo:rerun-if-changed=../ui/dist");
    let manifest = AppManifest::new().commands(COMMANDS);

    tauri_build::try_build(Attributes::new().app_manifest(manifest))
        .expect("the app's settings are right");
}
