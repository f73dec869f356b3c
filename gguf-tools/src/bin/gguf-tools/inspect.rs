//! `gguf-tools inspect`: what a model file is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use gguf_tools::{Array, Description, Gguf, Value};
use serde_json::json;

use crate::output::{say, say_json, size, table};

/// Most bytes of a text that are shown: a line on a wide screen.
const SHOWN_BYTES_MAX: usize = 80;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The model.
    file: PathBuf,
    /// List every metadata key as well.
    #[arg(long)]
    keys: bool,
    /// List every tensor as well.
    #[arg(long)]
    tensors: bool,
}

impl Inspect {
    pub(crate) fn run(&self, json: bool) -> anyhow::Result<ExitCode> {
        let model = crate::open(&self.file)?;
        let about = model.describe()?;

        if json {
            let mut document = serde_json::to_value(&about)?;
            if self.keys {
                document["keys"] = keys(&model)
                    .map(|[key, _, value]| json!([key, value]))
                    .collect();
            }
            if self.tensors {
                document["tensors"] = tensors_json(&model);
            }
            say_json(&document)?;
        } else {
            say(&facts(&about))?;
            if self.keys {
                let rows = keys(&model).collect::<Vec<_>>();
                say(&format!(
                    "\n{}",
                    left_table(["key", "type", "value"], &rows)
                ))?;
            }
            if self.tensors {
                let rows = tensors(&model).collect::<Vec<_>>();
                say(&format!(
                    "\n{}",
                    table(["tensor", "type", "shape", "size"], &rows)
                ))?;
            }
        }

        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the description as two columns.
fn facts(about: &Description) -> String {
    let yes_or_no = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
    let layer_bytes = match (
        about.layer_bytes.iter().min(),
        about.layer_bytes.iter().max(),
    ) {
        (Some(least), Some(most)) if least == most => size(*least),
        (Some(least), Some(most)) => format!("{} to {}", size(*least), size(*most)),
        _ => "none".to_owned(),
    };
    let by_type = about.bytes_by_type.iter();
    let by_type = by_type.map(|(tensor_type, bytes)| format!("{tensor_type} {}", size(*bytes)));
    let kv = about.kv_bytes_per_token_and_layer;

    let facts = [
        (
            "name",
            about.name.clone().unwrap_or_else(|| "none".to_owned()),
        ),
        ("architecture", about.architecture.clone()),
        (
            "can be cut",
            about
                .refusal
                .clone()
                .map_or("yes".to_owned(), |why| format!("no: {why}")),
        ),
        ("file", size(about.file_bytes)),
        (
            "parameters",
            format!("{:.1} M", about.n_parameters as f64 / 1e6),
        ),
        ("layers", about.n_layers.to_string()),
        ("a layer", layer_bytes),
        ("outside of layers", size(about.outer_bytes)),
        ("packed as", by_type.collect::<Vec<_>>().join(", ")),
        ("hidden state", about.n_embd.to_string()),
        (
            "heads",
            format!(
                "{} of {}, {} for keys and values",
                about.n_head, about.key_length, about.n_head_kv
            ),
        ),
        ("context", format!("{} tokens", about.n_ctx_train)),
        (
            "KV cache per token",
            format!(
                "{} a layer, {} in all",
                size(kv),
                size(kv.saturating_mul(about.n_layers.into()))
            ),
        ),
        ("vocabulary", format!("{} tokens", about.n_vocab)),
        ("tied embeddings", yes_or_no(about.tied_embeddings)),
        (
            "tokenizer",
            about.tokenizer.clone().unwrap_or_else(|| "none".to_owned()),
        ),
        ("chat template", yes_or_no(about.has_chat_template)),
    ];
    let lines = facts.iter().map(|(name, fact)| format!("{name:<20}{fact}"));

    lines.collect::<Vec<_>>().join("\n")
}

/// Returns key, type and value of every metadata entry, long ones shortened.
fn keys(model: &Gguf) -> impl Iterator<Item = [String; 3]> {
    model.key_values().map(|pair| {
        let value_type = match pair.value {
            Value::Array(list) => format!("{}[{}]", list.element, list.len),
            Value::Unsigned(_)
            | Value::Negative(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::String(_) => pair.value_type.to_string(),
        };

        [pair.key.to_owned(), value_type, shown(pair.value)]
    })
}

fn shown(value: Value<'_>) -> String {
    match value {
        Value::Unsigned(number) => number.to_string(),
        Value::Negative(number) => number.to_string(),
        Value::Float(number) => (number as f32).to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::String(text) => {
            let text = String::from_utf8_lossy(text).escape_debug().to_string();
            shorten(text)
        }
        Value::Array(list) => shorten(shown_list(list)),
    }
}

fn shown_list(list: Array<'_>) -> String {
    let some = list.iter().take(SHOWN_BYTES_MAX / 2).map(shown);

    some.collect::<Vec<_>>().join(", ")
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(SHOWN_BYTES_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn tensors(model: &Gguf) -> impl Iterator<Item = [String; 4]> {
    model.tensors().map(|tensor| {
        let dims = tensor.dims().iter().map(u64::to_string).collect::<Vec<_>>();

        [
            tensor.name.to_owned(),
            tensor.tensor_type.to_string(),
            dims.join(" × "),
            size(tensor.bytes.len() as u64),
        ]
    })
}

fn tensors_json(model: &Gguf) -> serde_json::Value {
    let tensors = model.tensors().map(|tensor| {
        json!({
            "name": tensor.name,
            "type": tensor.tensor_type,
            "dims": tensor.dims(),
            "bytes": tensor.bytes.len(),
        })
    });

    tensors.collect()
}

/// Returns `rows` in columns that are all to the left.
fn left_table(head: [&str; 3], rows: &[[String; 3]]) -> String {
    let first = rows
        .iter()
        .map(|row| row[0].len())
        .max()
        .unwrap_or(0)
        .max(head[0].len());
    let second = rows
        .iter()
        .map(|row| row[1].len())
        .max()
        .unwrap_or(0)
        .max(head[1].len());
    let head = head.map(str::to_owned);
    let lines = std::iter::once(&head).chain(rows);
    let lines = lines.map(|[key, kind, value]| format!("{key:<first$}  {kind:<second$}  {value}"));

    lines.collect::<Vec<_>>().join("\n")
}
