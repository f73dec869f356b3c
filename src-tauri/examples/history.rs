//! What the history costs: an append, a start, a list, a search. Prints, and asserts nothing.
//!
//! `cargo run --release -p app --example history -- [FOLDER]`; the folder, by default the system's temporary one, says on which disk.

#![allow(clippy::print_stdout)] // figures for who runs it

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use app::api::{AnswerOutcome, MessageId, Question, QuestionWhat, Sampling};
use app::history::{Archive, HistoryError};

/// Pieces of one answer, of four tokens each: a long one.
const N_PIECES: usize = 500;
const PIECE: &str = "These are some words";

/// A year of ten conversations a week.
const N_TALKS: usize = 500;
const N_QUESTIONS: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = match env::args_os().nth(1) {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let path = folder.path().join("history.db");
    let (mut archive, _) = Archive::open(&path, 1)?;

    one_answer(&mut archive)?;
    let words = fill(&mut archive)?;
    println!(
        "{N_TALKS} conversations of {N_QUESTIONS} questions: {:.1} MB of text, {:.1} MB in files",
        words as f64 / 1e6,
        archive.bytes()? as f64 / 1e6,
    );
    drop(archive);
    a_year(&path)
}

fn one_answer(archive: &mut Archive) -> Result<(), HistoryError> {
    let talk = archive.create(&Sampling::default(), 1)?;
    let text = "Why?".to_owned();
    let question = Question {
        conversation: talk,
        what: QuestionWhat::New { text },
    };

    let start = Instant::now();
    let answer = archive.begin(&question, "Ann", 1)?.answer;
    println!("begin an answer: {:?}", start.elapsed());

    let (mut times, written) = (Vec::new(), written_bytes());
    for _ in 0..N_PIECES {
        let start = Instant::now();
        archive.append(&answer, PIECE)?;
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "append {} bytes: median {:?}, slowest of {N_PIECES} {:?}; {} bytes written for each",
        PIECE.len(),
        times[N_PIECES / 2],
        times[N_PIECES - 1],
        (written_bytes() - written) / N_PIECES as u64,
    );

    let start = Instant::now();
    archive.end(&answer, AnswerOutcome::Complete, None, 2)?;
    println!("end an answer of {N_PIECES} pieces: {:?}", start.elapsed());
    Ok(())
}

/// Fills it with words of which no two texts have the same; returns how many bytes.
fn fill(archive: &mut Archive) -> Result<usize, HistoryError> {
    let (mut luck, mut words) = (1_u64, 0);
    for n in 0..N_TALKS {
        let conversation = archive.create(&Sampling::default(), n as u64)?;
        for _ in 0..N_QUESTIONS {
            let text = some_words(&mut luck, 15);
            words += text.len();
            let what = QuestionWhat::New { text };
            let question = Question {
                conversation: conversation.clone(),
                what,
            };
            let answer: MessageId = archive.begin(&question, "Ann", n as u64)?.answer;
            let text = some_words(&mut luck, 200);
            words += text.len();
            archive.append(&answer, &text)?;
            archive.end(&answer, AnswerOutcome::Complete, None, n as u64)?;
        }
    }
    Ok(words)
}

fn a_year(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (took, opened) = timed(|| Archive::open(path, 1));
    let (mut archive, _) = opened?;
    println!("open: {took:?}");

    let (took, list) = timed(|| archive.conversations());
    println!("list: {took:?}");

    let first = &list?.last().ok_or("there are some")?.id.clone();
    let (took, loaded) = timed(|| archive.load(first));
    println!("load {} messages: {took:?}", loaded?.messages.len());

    for query in ["gemobu", "zzzebra", "zq", "ba", "bacado fugihe"] {
        let (took, hits) = timed(|| archive.search(query));
        println!("search {query:?}: {took:?}, {} found", hits?.len());
    }

    let (took, deleted) = timed(|| archive.delete(first));
    deleted?;
    println!("delete a conversation: {took:?}");
    Ok(())
}

fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = run();
    (start.elapsed(), result)
}

/// Words of two to five syllables.
fn some_words(luck: &mut u64, n: usize) -> String {
    let mut next = |below: u64| {
        *luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*luck >> 33) % below
    };
    let mut text = String::new();
    for _ in 0..n {
        for _ in 0..2 + next(4) {
            text.push(char::from(b"bcdfghklmnprstvw"[next(16) as usize]));
            text.push(char::from(b"aeiou"[next(5) as usize]));
        }
        text.push(' ');
    }
    text
}

/// What this process handed to the file system; 0 where it does not say.
fn written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines()
        .find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())
        .unwrap_or(0)
}
