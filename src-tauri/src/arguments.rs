//! How the app is started: `lingualinked-app [--data FOLDER] [LINK]`.
//!
//! People start it without a word. Words, and the environment, are for tests and for several phones on one machine.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Folder in which the phone keeps what is its own.
const DATA: &str = "LINGUALINKED_DATA";

/// How the app is started.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Folder in which the phone keeps what is its own; the system's for this app, if nothing is said.
    pub data: Option<PathBuf>,
    /// Links that it was opened by.
    pub links: Vec<String>,
}

/// Returns whether a word is a link to this app.
pub fn is_link(word: &str) -> bool {
    word.starts_with("lingualinked:")
}

impl Arguments {
    /// Reads the command line and the environment.
    pub fn read() -> Self {
        Self::of(env::args_os().skip(1), |name| env::var_os(name))
    }

    fn of(words: impl Iterator<Item = OsString>, said: impl Fn(&str) -> Option<OsString>) -> Self {
        let (mut data, mut links, mut words) = (None, Vec::new(), words);
        while let Some(word) = words.next() {
            if word == "--data" {
                data = words.next();
            } else if let Some(link) = word.to_str().filter(|word| is_link(word)) {
                links.push(link.to_owned());
            }
        }
        let data = data.or_else(|| said(DATA));

        Self {
            data: data.filter(|data| !data.is_empty()).map(PathBuf::from),
            links,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_counts_more_than_the_environment() {
        let words = |words: &[&str]| {
            let words = words.iter().map(OsString::from).collect::<Vec<_>>();
            Arguments::of(words.into_iter(), |name| {
                (name == DATA).then(|| "/env".into())
            })
        };

        assert_eq!(words(&[]).data, Some("/env".into()));
        assert_eq!(words(&["--data", "/here"]).data, Some("/here".into()));
        let link = words(&["lingualinked://join?v=1", "--data", "/here"]);
        assert_eq!(link.data, Some("/here".into()));
        assert_eq!(link.links, ["lingualinked://join?v=1"]);
        assert_eq!(words(&["--data", "lingualinked:"]).links, [""; 0]);
        assert_eq!(words(&["--data"]).data, Some("/env".into()));
    }
}
