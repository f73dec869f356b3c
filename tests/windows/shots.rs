//! Pictures of what was seen, numbered in the order of the story.

use std::fs;
use std::path::PathBuf;

use netshim::Phone;

use crate::TestResult;

/// Where pictures are kept.
pub fn folder() -> PathBuf {
    let shots = std::env::var_os("LINGUALINKED_SHOTS").map(PathBuf::from);
    shots.unwrap_or_else(|| {
        let cache = dirs::cache_dir().expect("there is a home folder");
        cache.join("lingualinked/shots")
    })
}

/// Photographs a phone's display, and keeps the picture as `windows/STORY/NAME.png`.
pub fn take(phone: &Phone, display: &str, story: &str, name: &str) -> TestResult {
    let folder = folder().join("windows").join(story);
    fs::create_dir_all(&folder)?;
    // From within: every phone has a display of the same number.
    let taken = phone
        .command("import")
        .args(["-display", display, "-window", "root"])
        .arg(folder.join(format!("{name}.png")))
        .output()?;

    if !taken.status.success() {
        return Err(String::from_utf8_lossy(&taken.stderr).into());
    }
    Ok(())
}
