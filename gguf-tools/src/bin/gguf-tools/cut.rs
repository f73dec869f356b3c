//! `gguf-tools cut`: a model in, shards and their manifest out.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use gguf_tools::Cut;
use serde_json::json;

use crate::manifest::{MANIFEST_FILE, shards_json, shards_table};
use crate::output::{progress, say, say_json};

#[derive(Debug, Args)]
pub(crate) struct CutCommand {
    /// The model.
    file: PathBuf,
    /// Folder for the shards and `manifest.json`; made if it is not there.
    #[arg(short, long)]
    out: PathBuf,
    #[command(flatten)]
    place: crate::Where,
}

impl CutCommand {
    pub(crate) fn run(&self, json: bool) -> anyhow::Result<ExitCode> {
        let cut = self.place.cut(&self.file)?;
        fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make the folder {}", self.out.display()))?;

        self.write_shards(&cut)?;
        let bar = progress("hashing", cut.len_bytes());
        let manifest = cut.manifest(|bytes| bar.inc(bytes));
        bar.finish_and_clear();
        let path = self.out.join(MANIFEST_FILE);
        crate::write(&path, &serde_json::to_vec_pretty(&manifest)?)?;

        if json {
            say_json(&json!({
                "manifest": path,
                "model": manifest.hash(),
                "shards": shards_json(&manifest),
            }))?;
        } else {
            say(&shards_table(&manifest))?;
            say(&format!("\nwritten to {}", self.out.display()))?;
        }

        Ok(ExitCode::SUCCESS)
    }

    fn write_shards(&self, cut: &Cut) -> anyhow::Result<()> {
        let bar = progress("writing", cut.len_bytes());
        for shard in cut.shards() {
            let path = self.out.join(shard.kind().file_name());
            shard
                .write_file_noting(&path, &mut |bytes| bar.inc(bytes))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        bar.finish_and_clear();

        Ok(())
    }
}
