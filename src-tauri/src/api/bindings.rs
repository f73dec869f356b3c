//! The screens' types are made from ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ts_rs::{Config, TS};

use super::*;

/// Says that the bindings are to be written anew, not compared.
const WRITE: &str = "LINGUALINKED_WRITE_BINDINGS";

/// Types that nothing else is made of: what commands take and give, and what streams carry.
fn export(folder: &Path) {
    // Every number is one: none of ours is above 2^53, which JavaScript's hold.
    let config = Config::new().with_out_dir(folder).with_large_int("number");

    AppState::export_all(&config).expect("the folder can be written");
    AnswerEvent::export_all(&config).expect("the folder can be written");
    Beat::export_all(&config).expect("the folder can be written");
    Conversation::export_all(&config).expect("the folder can be written");
    Diagnostics::export_all(&config).expect("the folder can be written");
    Forecasts::export_all(&config).expect("the folder can be written");
    ImportResult::export_all(&config).expect("the folder can be written");
    LeaveWhen::export_all(&config).expect("the folder can be written");
    Question::export_all(&config).expect("the folder can be written");
    ScanResult::export_all(&config).expect("the folder can be written");
    SearchHit::export_all(&config).expect("the folder can be written");
    SettingChange::export_all(&config).expect("the folder can be written");
}

#[test]
fn the_screens_have_the_types_that_we_have() {
    let theirs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ui/src/bindings");
    if std::env::var_os(WRITE).is_some() {
        fs::remove_dir_all(&theirs).expect("it is ours");
        return export(&theirs);
    }
    let folder = tempfile::tempdir().expect("there is room for a folder");

    export(folder.path());

    let (ours, theirs) = (files(folder.path()), files(&theirs));
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>(),
        "run this test with {WRITE}=1"
    );
    for (name, text) in ours {
        assert_eq!(text, theirs[&name], "{name}: run this test with {WRITE}=1");
    }
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let files = entries.map(|entry| {
        let entry = entry.expect("the folder can be read");
        let text = fs::read_to_string(entry.path()).expect("bindings are text");
        (entry.file_name().to_string_lossy().into_owned(), text)
    });

    files.collect()
}
