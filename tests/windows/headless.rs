//! The program without a window: what it answers is what a window has to show; and a stranger with any name.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::people::{MODEL_FILE, models};

/// The program, as cargo puts it beside the app.
pub fn program() -> Result<PathBuf, Box<dyn Error>> {
    let app = Path::new(env!("CARGO_BIN_EXE_lingualinked-app"));
    let program = app.with_file_name("lingualinked");
    if !program.exists() {
        return Err(format!("{} is missing: build `-p node`, too", program.display()).into());
    }
    Ok(program)
}

/// What a group of three without windows answers.
pub fn answer(question: &str) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program()?)
        .args(["demo", "--phones", "3", "--memory-limit", "250000000"])
        .args(["--max-tokens", "1024", "--json", "--prompt", question])
        .arg("--model")
        .arg(models().join(MODEL_FILE))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let lines = String::from_utf8(output.stdout)?;
    let done = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["event"] == "done");

    let done = done.ok_or("the headless group gave no answer")?;
    Ok(done["text"].as_str().unwrap_or_default().to_owned())
}
