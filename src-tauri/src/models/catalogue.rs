//! The models that people are offered: `catalogue.json`, which says where its figures come from.

use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::card::{Card, Shape};
use crate::api::ModelId;

/// A model that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its name: the SHA-256 of its file, in hexadecimal.
    pub id: ModelId,
    /// What it is.
    pub card: Arc<Card>,
    /// What its file is called where it is kept.
    pub file_name: String,
    /// Where it is served to everybody.
    pub url: Option<Url>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not a list of models.
    #[error("the catalogue cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Something that is said of a model cannot be.
    #[error("{name}: {what}")]
    Impossible {
        /// The model.
        name: String,
        /// What cannot be.
        what: &'static str,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    /// Where the figures come from; for people.
    #[serde(rename = "about")]
    _about: Vec<String>,
    models: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: String,
    name: String,
    maker: String,
    file_name: String,
    url: Option<String>,
    file_bytes: u64,
    architecture: String,
    quantisation: String,
    licence: String,
    languages: Vec<String>,
    parameters: u64,
    n_layers: u32,
    n_embd: u32,
    context_tokens: u32,
    ends_bytes: u64,
    kv_bytes_per_token_and_layer: u64,
}

/// Returns the models that this version of the app offers, smallest first.
pub fn offers() -> Vec<Offer> {
    parse(include_bytes!("catalogue.json")).expect("a test reads the catalogue that is built in")
}

/// Reads a catalogue.
///
/// # Errors
///
/// Any [`CatalogueError`].
pub fn parse(json: &[u8]) -> Result<Vec<Offer>, CatalogueError> {
    let catalogue = serde_json::from_slice::<Catalogue>(json)?;
    let mut offers = catalogue
        .models
        .into_iter()
        .map(Entry::offer)
        .collect::<Result<Vec<_>, _>>()?;
    offers.sort_by_key(|offer| offer.card.file_bytes);

    Ok(offers)
}

impl Entry {
    fn offer(self) -> Result<Offer, CatalogueError> {
        if let Some(what) = self.what_is_wrong() {
            return Err(CatalogueError::Impossible {
                name: self.name,
                what,
            });
        }
        // One layer as large as another, and what does not divide with the ends.
        let layer_bytes = (self.file_bytes - self.ends_bytes) / u64::from(self.n_layers);
        let layers_bytes = layer_bytes * u64::from(self.n_layers);

        Ok(Offer {
            url: self.url(),
            id: ModelId(self.sha256),
            file_name: self.file_name,
            card: Arc::new(Card {
                name: self.name,
                maker: self.maker,
                architecture: self.architecture,
                quantisation: self.quantisation,
                licence: self.licence,
                languages: self.languages,
                parameters: self.parameters,
                context_tokens: self.context_tokens,
                file_bytes: self.file_bytes,
                shape: Shape {
                    n_embd: self.n_embd,
                    ends_bytes: self.file_bytes - layers_bytes,
                    layer_bytes: vec![layer_bytes; self.n_layers as usize],
                    kv_bytes_per_token_and_layer: self.kv_bytes_per_token_and_layer,
                },
            }),
        })
    }

    fn url(&self) -> Option<Url> {
        self.url.as_deref()?.parse().ok()
    }

    fn what_is_wrong(&self) -> Option<&'static str> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_known = self
            .architecture
            .parse::<gguf_tools::Architecture>()
            .is_ok();

        if !super::is_sha256(&self.sha256) {
            Some("its SHA-256 is not 64 hexadecimal digits")
        } else if !is_known {
            Some("its architecture cannot be cut")
        } else if !self.file_name.chars().all(is_plain) || self.file_name.starts_with('.') {
            Some("its file's name is not plain")
        } else if self.url.is_some() && self.url().is_none_or(|url| url.scheme() != "https") {
            Some("its address is not https")
        } else if self.file_bytes > super::card::FILE_BYTES_MAX
            || self.ends_bytes >= self.file_bytes
        {
            Some("its sizes cannot be")
        } else if !(1..=512).contains(&self.n_layers) {
            Some("its layers cannot be")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_offered_can_be() {
        let offers = offers();

        let ids = offers
            .iter()
            .map(|offer| &offer.id)
            .collect::<BTreeSet<_>>();
        assert_eq!(ids.len(), offers.len(), "a model is offered twice");
        for Offer { card, url, .. } in &offers {
            let Card {
                name,
                shape,
                parameters,
                ..
            } = card.as_ref();
            let url = url.as_ref().expect("everybody can fetch it");
            assert!(
                !url.path().contains("/main/"),
                "{name}: an address that may change"
            );
            assert!((1..=1000).contains(&(shape.n_embd / 8)), "{name}");
            let sizes = shape.layer_bytes.iter().sum::<u64>() + shape.ends_bytes;
            assert_eq!(sizes, card.file_bytes, "{name}");
            let bits = card.file_bytes as f64 * 8.0 / *parameters as f64;
            assert!((4.5..9.0).contains(&bits), "{name}: {bits} bits a weight");
            assert!(card.languages.iter().all(|code| code.len() == 2), "{name}");
            assert!(!card.licence.is_empty() && !card.maker.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_smallest_comes_first() {
        let offers = offers();

        assert_eq!(offers[0].card.name, "SmolLM2 135M");
        assert!(offers.is_sorted_by_key(|offer| offer.card.file_bytes));
    }

    #[test]
    fn what_cannot_be_is_not_offered() {
        let good = include_str!("catalogue.json");
        parse(good.as_bytes()).unwrap();

        for (from, to) in [
            ("\"architecture\": \"llama\"", "\"architecture\": \"opt\""),
            ("b179c9523d0e", "../../../etc"),
            ("SmolLM2-135M-Instruct.Q4_1.gguf\"", "../a.gguf\""),
            ("https://hugging", "http://hugging"),
            ("\"file_bytes\": 98362432", "\"file_bytes\": 9"),
            ("\"n_layers\": 30", "\"n_layers\": 0"),
            ("\"n_embd\": 576", "\"n_embd\": -1"),
            ("\"n_embd\": 576", "\"n_embd\": 576, \"more\": 1"),
        ] {
            assert!(good.contains(from), "{from}");
            let bad = good.replacen(from, to, 2);
            assert!(parse(bad.as_bytes()).is_err(), "{to} was accepted");
        }
    }
}
