//! `gguf-tools synth`: a model of a real shape with random weights.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use gguf_tools::{Shape, Synth, TensorType};
use serde_json::json;

use crate::output::{progress, say, say_json, size, table};

#[derive(Debug, Args)]
pub(crate) struct SynthCommand {
    /// The shape, such as llama-3.2-1b or tiny-bloom. Without it, all shapes are listed.
    preset: Option<String>,
    /// The file to write.
    #[arg(short, long)]
    out: Option<PathBuf>,
    /// How matrices are packed: q4_0, q8_0, f16 or f32.
    #[arg(short = 't', long = "type", default_value = "q4_0", value_parser = tensor_type)]
    tensor_type: TensorType,
    /// Number from which the weights follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of layers, if not that of the preset.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=512))]
    layers: Option<u32>,
    /// Model to take the tokenizer from; without it, it is synthetic too.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

fn tensor_type(name: &str) -> Result<TensorType, String> {
    TensorType::from_name(name).ok_or_else(|| "use q4_0, q8_0, f16 or f32".to_owned())
}

impl SynthCommand {
    pub(crate) fn run(&self, json: bool) -> anyhow::Result<ExitCode> {
        match (&self.preset, &self.out) {
            (Some(preset), Some(out)) => self.write(preset, out, json)?,
            (Some(_), None) => anyhow::bail!("say where to write the model: --out FILE"),
            (None, _) => list(self.tensor_type, json)?,
        }

        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, preset: &str, out: &PathBuf, json: bool) -> anyhow::Result<()> {
        let mut shape = Shape::preset(preset)?;
        shape.n_layers = self.layers.unwrap_or(shape.n_layers);
        let mut synth = Synth::new(shape, self.tensor_type, self.seed);
        if let Some(path) = &self.tokenizer {
            let from = crate::open(path)?;
            synth = synth
                .with_tokenizer_of(&from)
                .with_context(|| format!("{} cannot lend its tokenizer", path.display()))?;
        }

        let bytes = synth.len_bytes()?;
        let bar = progress("writing", bytes);
        synth
            .write_file(out, &mut |bytes| bar.inc(bytes))
            .with_context(|| format!("cannot make {}", out.display()))?;
        bar.finish_and_clear();

        if json {
            say_json(&json!({
                "file": out,
                "bytes": bytes,
                "parameters": synth.n_parameters(),
                "type": self.tensor_type,
                "seed": self.seed,
            }))
        } else {
            let weights = format!("{:.1} M weights", synth.n_parameters() as f64 / 1e6);
            say(&format!(
                "{}: {preset}, {weights}, {}",
                out.display(),
                size(bytes)
            ))
        }
    }
}

/// Lists the presets, with the sizes they would have.
fn list(tensor_type: TensorType, json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for preset in Shape::PRESETS {
        let shape = Shape::preset(preset)?;
        let (architecture, n_layers) = (shape.architecture, shape.n_layers);
        let synth = Synth::new(shape, tensor_type, 0);
        rows.push((
            preset,
            architecture,
            n_layers,
            synth.n_parameters(),
            synth.len_bytes()?,
        ));
    }

    if json {
        let rows = rows
            .iter()
            .map(|(preset, architecture, n_layers, parameters, bytes)| {
                json!({
                    "preset": preset,
                    "architecture": architecture,
                    "n_layers": n_layers,
                    "parameters": parameters,
                    "bytes": bytes,
                })
            });
        return say_json(&rows.collect::<Vec<_>>());
    }
    let rows = rows
        .iter()
        .map(|(preset, architecture, n_layers, parameters, bytes)| {
            [
                (*preset).to_owned(),
                architecture.to_string(),
                n_layers.to_string(),
                format!("{:.1} M", *parameters as f64 / 1e6),
                size(*bytes),
            ]
        });
    let head = ["preset", "architecture", "layers", "weights", "size"];

    say(&table(head, &rows.collect::<Vec<_>>()))
}
