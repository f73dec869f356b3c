//! What a group takes in a real network: `lingualinked` processes in network namespaces, joined by netshim.
//!
//! ```text
//! make bench-network                                     all of it, as root: some ten minutes
//! make bench-network PART=forecast                       or `transfer`, `chat`, `forming`
//! make bench-network PART='forecast llama'               only cases whose names have that word
//! ```
//!
//! It prints and does not judge. All phones share this machine's processors: each computes with one thread. In decode
//! one phone computes at a time, so that is as with real phones; while a prompt is read several do, and more than there
//! are cores of make a first token later than it would be.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

mod bed;
mod chat;
mod forecast;
mod forming;
mod models;
mod transfer;

#[path = "../../netns/node.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod node;

/// Where [`node`] looks for what it shares with tests.
mod looker {
    pub const PROGRAM: &str = env!("CARGO_BIN_EXE_lingualinked");
}

/// The same.
mod group {
    use std::time::Duration;

    /// Models are hashed, measured and streamed within that time.
    pub const PATIENCE: Duration = Duration::from_secs(180);
}

/// Prints what helps to find out why a part ended: where tests keep it, it is told at once.
fn note(words: &str) {
    println!("{words}");
}

/// A part: its name, and what it does, for cases of which a word is given.
type Part = (&'static str, fn(&str));

/// The parts, in the order in which they run.
const PARTS: &[Part] = &[
    ("forming", forming::run),
    ("forecast", forecast::run),
    ("transfer", transfer::run),
    ("chat", chat::run),
];

fn main() {
    if let Err(missing) = netshim::requirements() {
        return println!("nothing measured: {missing}");
    }

    let mut words = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let (part, case) = (words.next(), words.next().unwrap_or_default());
    for (name, run) in PARTS {
        if part.as_deref().is_none_or(|part| part == *name) {
            run(&case.to_lowercase());
        }
    }
}
