//! A phone whose system kills the app in the middle of an answer, fifty times over.
//!
//! While words come, the app is killed as nothing can prevent (`SIGKILL`). Its database is read as the kill left it: it is whole,
//! holds every message that was there before, byte by byte, and of the answer at least what was on the screen. Then the app is
//! opened again, and so on.

use std::error::Error;
use std::time::Instant;

use netshim::{Net, NetOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::TestResult;
use crate::handset::Handset;
use crate::kept::{self, Message};
use crate::people::{
    Begin, MODEL, WORK, answer, ask, get_chatting, new_conversation, tab, welcome, written,
};

const STORY: &str = "killed";

const N_KILLS: usize = 50;

/// Letters that are on the screen at least when the kill comes; the answers have some thousand.
const LETTERS_MAX: usize = 240;

/// What is asked. Greedy, this model writes prose to it.
const QUESTION: &str = "Write a long story about a lighthouse.";

pub fn a_killed_app_keeps_what_was_said() -> TestResult {
    let net = Net::new(NetOptions::named(["Ann"]))?;
    let folder = tempfile::tempdir()?;
    let mut ann = Handset::turn_on(net.phone(0), "Ann", STORY, folder.path())?;
    ann.open(&[])?;
    welcome(&ann, Begin::Alone)?;
    get_chatting(&ann)?;
    new_conversation(&ann)?;
    ask(&ann, QUESTION)?;
    answer(&ann)?;
    ann.close()?;
    let mut said = kept::messages(&ann.history())?;
    let whole = said.last().ok_or("nothing is kept")?.text.clone();

    let mut luck = ChaCha12Rng::seed_from_u64(0);
    let begun = Instant::now();
    for round in 0..N_KILLS {
        let n_letters = luck.random_range(1..=LETTERS_MAX);
        let shown =
            be_killed(&mut ann, n_letters).map_err(|error| format!("round {round}: {error}"))?;

        let found = kept::messages(&ann.history())?;
        let answer =
            new_answer(&said, &found, &shown).map_err(|error| format!("round {round}: {error}"))?;
        if !whole.starts_with(answer) {
            return Err(format!("round {round}: {answer:?} does not begin {whole:?}").into());
        }
        said = found;
    }
    let round_s = begun.elapsed().as_secs_f64() / N_KILLS as f64;
    println!("{N_KILLS} kills, all in the middle of an answer; {round_s:.1} s a round");

    ann.open(&[])?;
    ann.tap(QUESTION)?;
    ann.see("Cut short when the app ended.")?;
    let last = &said.last().ok_or("nothing is kept")?.text;
    ann.wait("what was said", |phone| {
        let shown = phone.texts("article .prose").pop()?;
        (letters(&shown) == letters(last)).then_some(())
    })?;
    ann.photograph("12-killed-again-and-again")
}

/// The app is opened and asked, and killed when so many letters of the answer can be read. Returns what could be.
fn be_killed(ann: &mut Handset, n_letters: usize) -> Result<String, Box<dyn Error>> {
    ann.open(&[])?;
    tab(ann, "Models")?;
    ann.tap(MODEL)?;
    start(ann)?;
    new_conversation(ann)?;
    ask(ann, QUESTION)?;
    let shown = ann.wait_for(WORK, "some words", |phone| {
        written(phone).filter(|text| letters(text).len() >= n_letters)
    })?;

    ann.kill()?;
    Ok(shown)
}

fn start(ann: &Handset) -> TestResult {
    // What is to be expected pushes the button down when it comes.
    ann.see_within(WORK, "tokens/s")?;
    ann.tap("Start on this phone")?;
    ann.see_within(WORK, "Ready on this phone")
}

/// Returns what is kept of the answer that was being written, if all that is as it was, and it is the only thing that is new
/// beside its question.
fn new_answer<'a>(
    before: &[Message],
    after: &'a [Message],
    shown: &str,
) -> Result<&'a str, Box<dyn Error>> {
    let (old, new) = after
        .split_at_checked(before.len())
        .ok_or("messages are gone")?;
    for (before, after) in before.iter().zip(old) {
        if *after != before.reopened()? {
            return Err(format!("{before:?} has become {after:?}").into());
        }
    }

    let [question, answer] = new else {
        return Err(format!("new are {new:?}").into());
    };
    if !question.asks(QUESTION) || !answer.is_under_way() {
        return Err(format!("not killed in the middle of an answer: {new:?}").into());
    }
    // Words are written down before they are shown.
    if !letters(&answer.text).starts_with(&letters(shown)) {
        return Err(format!("{shown:?} has become {:?}", answer.text).into());
    }
    Ok(&answer.text)
}

/// What is left of a text, however it is laid out.
fn letters(text: &str) -> String {
    text.chars().filter(|char| char.is_alphabetic()).collect()
}
