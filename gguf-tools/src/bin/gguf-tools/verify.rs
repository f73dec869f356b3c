//! `gguf-tools verify`: are these the shards that the manifest lists?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use gguf_tools::{Manifest, VerifyError, verify_file};
use serde_json::json;

use crate::manifest::MANIFEST_FILE;
use crate::output::{progress, say, say_json};

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Folder that holds the shards.
    folder: PathBuf,
    /// The manifest, if it is not `manifest.json` in that folder.
    #[arg(short, long)]
    manifest: Option<PathBuf>,
}

impl Verify {
    pub(crate) fn run(&self, json: bool) -> anyhow::Result<ExitCode> {
        let manifest = self.read_manifest()?;
        let outcomes = self.verify(&manifest);
        let all_right = outcomes.iter().all(|(_, outcome)| outcome.is_ok());

        if json {
            let shards = outcomes
                .iter()
                .map(|(file, outcome)| shard_json(file, outcome));
            let shards = shards.collect::<Vec<_>>();
            say_json(&json!({ "ok": all_right, "model": manifest.hash(), "shards": shards }))?;
        } else {
            for (file, outcome) in &outcomes {
                match outcome {
                    Ok(()) => say(&format!("ok      {file}"))?,
                    Err(error) => say(&format!("FAILED  {file}: {error}"))?,
                }
            }
        }

        anyhow::ensure!(
            all_right,
            "the shards are not those of the manifest; cut the model again, or fetch them again"
        );
        Ok(ExitCode::SUCCESS)
    }

    fn read_manifest(&self) -> anyhow::Result<Manifest> {
        let usual = || self.folder.join(MANIFEST_FILE);
        let path = self.manifest.clone().unwrap_or_else(usual);

        read_manifest(&path).with_context(|| format!("{} is not a usable manifest", path.display()))
    }

    fn verify(&self, manifest: &Manifest) -> Vec<(String, Result<(), VerifyError>)> {
        let bytes = manifest.shards().map(|entry| entry.bytes).sum();
        let bar = progress("verifying", bytes);
        let outcomes = manifest.shards().map(|entry| {
            let file = entry.kind.file_name();
            let outcome = verify_file(entry, &self.folder.join(&file), |bytes| bar.inc(bytes));
            (file, outcome)
        });

        let outcomes = outcomes.collect();
        bar.finish_and_clear();

        outcomes
    }
}

fn read_manifest(path: &Path) -> anyhow::Result<Manifest> {
    let text = fs::read(path).context("it cannot be read; `gguf-tools cut` writes one")?;
    let manifest = serde_json::from_slice::<Manifest>(&text)?;
    manifest.validate()?;

    Ok(manifest)
}

fn shard_json(file: &str, outcome: &Result<(), VerifyError>) -> serde_json::Value {
    match outcome {
        Ok(()) => json!({ "file": file, "ok": true }),
        Err(VerifyError::Corrupt { chunks, .. }) => {
            json!({ "file": file, "ok": false, "error": "corrupt", "chunks": chunks })
        }
        Err(
            error @ (VerifyError::Io { .. }
            | VerifyError::Size { .. }
            | VerifyError::WholeHash { .. }),
        ) => json!({ "file": file, "ok": false, "error": error.to_string() }),
    }
}
