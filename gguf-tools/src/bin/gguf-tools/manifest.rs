//! `gguf-tools manifest`: the shards of a model, listed without being written.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use gguf_tools::Manifest;
use serde_json::json;

use crate::output::{progress, say, say_json, size, table};

/// Name of the manifest in a folder of shards.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

#[derive(Debug, Args)]
pub(crate) struct ManifestCommand {
    /// The model.
    file: PathBuf,
    /// Write the manifest to this file as well.
    #[arg(short, long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: crate::Where,
}

impl ManifestCommand {
    pub(crate) fn run(&self, json: bool) -> anyhow::Result<ExitCode> {
        let cut = self.place.cut(&self.file)?;
        let bar = progress("hashing", cut.len_bytes());
        let manifest = cut.manifest(|bytes| bar.inc(bytes));
        bar.finish_and_clear();

        if let Some(path) = &self.out {
            crate::write(path, &serde_json::to_vec_pretty(&manifest)?)?;
        }
        if json {
            say_json(&manifest)?;
        } else {
            say(&shards_table(&manifest))?;
        }

        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the manifest for people.
pub(crate) fn shards_table(manifest: &Manifest) -> String {
    let rows = manifest.shards().map(|entry| {
        [
            entry.kind.to_string(),
            size(entry.bytes),
            size(entry.kv_bytes_per_token),
            entry.chunks.len().to_string(),
            entry.hash.to_string()[..16].to_owned(),
        ]
    });
    let rows = rows.collect::<Vec<_>>();
    let total = manifest.shards().map(|entry| entry.bytes).sum();

    format!(
        "{} ({}, {} layers)\n\n{}\n\n{} in {} shards, model {}",
        manifest.name,
        manifest.architecture,
        manifest.n_layers,
        table(["shard", "size", "KV a token", "chunks", "BLAKE3"], &rows),
        size(total),
        rows.len(),
        manifest.hash(),
    )
}

/// Returns the shards for programs, without the hashes of their chunks.
pub(crate) fn shards_json(manifest: &Manifest) -> serde_json::Value {
    let shards = manifest.shards().map(|entry| {
        json!({
            "kind": entry.kind,
            "file": entry.kind.file_name(),
            "bytes": entry.bytes,
            "hash": entry.hash,
            "kv_bytes_per_token": entry.kv_bytes_per_token,
        })
    });

    shards.collect()
}
