//! Pictures of what was seen, numbered in the order of the story.

use std::fs;
use std::path::PathBuf;

/// Where pictures are kept.
pub fn folder() -> PathBuf {
    let shots = std::env::var_os("LINGUALINKED_SHOTS").map(PathBuf::from);
    shots.unwrap_or_else(|| {
        let cache = dirs::cache_dir().expect("there is a home folder");
        cache.join("lingualinked/shots")
    })
}

/// Keeps a picture as `windows/STORY/NAME.png`.
pub fn keep(story: &str, name: &str, png: &[u8]) -> std::io::Result<()> {
    let folder = folder().join("windows").join(story);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.png")), png)
}
