//! Where a model's bytes come from.
//!
//! | order | source | for |
//! | --- | --- | --- |
//! | 1 | the folder `LINGUALINKED_MODELS`, if the file lies there with the right length | people who have it already, tests |
//! | 2 | the address `LINGUALINKED_MODELS_URL` with the file's name, and then nothing else | a server in one's own network, tests |
//! | 3 | the catalogue's address | everybody |
//!
//! None of them is trusted: what counts is the hash.

use std::path::PathBuf;

use url::{Host, Url};

use super::catalogue::Offer;
use super::trouble::host;

/// Where to look beside the catalogue's addresses.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sources {
    /// A folder with models, under the names that the catalogue gives their files.
    pub folder: Option<PathBuf>,
    /// A server with models under the same names, which takes the place of the catalogue's addresses.
    pub base: Option<Url>,
}

/// Where to get one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From a file of this phone.
    File(PathBuf),
    /// From a server.
    Server(Url),
}

impl Source {
    /// Returns whose it is, for people.
    pub(super) fn host(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Server(url) => host(url),
        }
    }
}

/// An address of a server with models that is none.
#[derive(Debug, thiserror::Error)]
#[error("LINGUALINKED_MODELS_URL is no address to fetch models from: `{0}`")]
pub struct BadAddress(String);

impl Sources {
    /// Returns what the environment says.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if what it says of a server is no address of one.
    pub fn from_env() -> Result<Self, BadAddress> {
        let folder = std::env::var_os("LINGUALINKED_MODELS").filter(|folder| !folder.is_empty());
        let base = match std::env::var("LINGUALINKED_MODELS_URL") {
            Ok(text) if !text.is_empty() => Some(base(&text).ok_or(BadAddress(text))?),
            _ => None,
        };

        Ok(Self {
            folder: folder.map(PathBuf::from),
            base,
        })
    }

    /// Returns where to get a model, the best first.
    pub(super) fn of(&self, offer: &Offer) -> Vec<Source> {
        let server = match &self.base {
            Some(base) => base.join(&offer.file_name).ok(),
            None => offer.url.clone(),
        };
        let file = self
            .folder
            .as_ref()
            .map(|folder| folder.join(&offer.file_name));
        let file = file.filter(|file| {
            let metadata = file.metadata();
            metadata.is_ok_and(|data| data.is_file() && data.len() == offer.card.file_bytes)
        });

        let file = file.map(Source::File).into_iter();
        file.chain(server.map(Source::Server)).collect()
    }
}

/// Reads an address that file names can be put behind.
fn base(text: &str) -> Option<Url> {
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).ok()?;

    is_safe(&url).then_some(url)
}

/// Returns whether bytes may be fetched from an address: by https, or without it from this very machine.
pub(super) fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(url),
        _ => false,
    }
}

/// Returns whether a server may send us on from one address to another: never from https to less.
pub(super) fn may_follow(from: &Url, to: &Url) -> bool {
    is_safe(to) && (to.scheme() == "https" || from.scheme() == "http")
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_safe_but_for_this_machine() {
        for (url, expected) in [
            ("https://example.org/a", true),
            ("http://127.0.0.1:8000/a", true),
            ("http://[::1]/a", true),
            ("http://localhost:1/a", true),
            ("http://example.org/a", false),
            ("http://127.0.0.1.example.org/a", false),
            ("http://localhost.example.org/a", false),
            ("http://192.168.1.2/a", false),
            ("file:///etc/passwd", false),
            ("ftp://127.0.0.1/a", false),
        ] {
            assert_eq!(is_safe(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn nobody_is_sent_from_https_to_less() {
        let url = |text| Url::parse(text).unwrap();
        let (far, farther) = (url("https://a.org/"), url("https://b.org/"));
        let (here, plain) = (url("http://127.0.0.1/"), url("http://a.org/"));

        assert!(may_follow(&far, &farther));
        assert!(may_follow(&here, &here));
        assert!(may_follow(&here, &far));
        assert!(!may_follow(&far, &here));
        assert!(!may_follow(&far, &plain));
        assert!(!may_follow(&here, &plain));
    }

    #[test]
    fn a_server_of_ones_own_takes_the_catalogues_place() {
        let offer = &super::super::catalogue::offers()[0];
        let sources = Sources {
            base: base("http://127.0.0.1:80/models"),
            folder: None,
        };

        let found = sources.of(offer);

        let expected = "http://127.0.0.1:80/models/SmolLM2-135M-Instruct.Q4_1.gguf";
        assert_eq!(found, [Source::Server(Url::parse(expected).unwrap())]);
        assert_eq!(
            Sources::default().of(offer),
            [Source::Server(offer.url.clone().unwrap())]
        );
        assert_eq!(base("http://example.org"), None);
        assert_eq!(base("nonsense"), None);
    }
}
