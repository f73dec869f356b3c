//! The history is killed in the middle of whatever it does, fifty times over: the database opens, and holds all that was
//! acknowledged, and at most the operation that it was at.
//!
//! `tests/windows/crash.rs` kills the whole app, always while words come. Here questions are edited and conversations deleted,
//! too, and it is known to the operation what must be there. What is killed is this test's own executable, told to [write]. It
//! says after each operation that it was done; then it is killed, as nothing can prevent (`SIGKILL`), after a number of
//! operations and a moment, which are drawn.

mod reference;

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use app::history::Archive;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use reference::database::open_checked;
use reference::{Ending, Operation, Reference, Subject, shown};

const N_KILLS: u64 = 50;

/// Tells the executable which database it shall write to, by which seed, and what time it is.
const DATABASE: &str = "LINGUALINKED_CRASH_DATABASE";
const SEED: &str = "LINGUALINKED_CRASH_SEED";
const NOW: &str = "LINGUALINKED_CRASH_NOW";

/// What it says after each operation.
const DONE: &str = "done";

#[test]
fn a_kill_costs_at_most_what_was_not_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let mut reference = Reference::default();
    let (mut n_cut, mut n_lost) = (0, 0);

    for seed in 0..N_KILLS {
        let n_done = run_and_kill(&path, seed, reference.now());

        let archive = reopen(&path);
        let found = shown(&archive);
        let plan: Vec<Operation> = Plan::new(seed, reference.n_made())
            .take(n_done + 1)
            .collect();
        let (done, doing) = plan.split_at(n_done);
        for operation in done {
            reference.apply(operation).expect("the plan is sound");
        }
        let mut with_next = reference.clone();
        with_next.apply(&doing[0]).expect("the plan is sound");

        n_cut += usize::from(reference.is_answering());
        reference.end_left();
        with_next.end_left();
        if found == with_next.shown() {
            reference = with_next;
        } else {
            assert_eq!(
                found,
                reference.shown(),
                "seed {seed}, killed after {n_done} operations"
            );
            n_lost += 1;
        }
        drop(archive);
        open_checked(&path);
    }
    let _ = writeln!(
        io::stderr(),
        "{N_KILLS} kills, {n_cut} in the middle of an answer; {n_lost} lost the operation that was not acknowledged"
    );
    assert!(
        n_cut > N_KILLS as usize / 2,
        "only {n_cut} were in the middle of an answer"
    );
}

/// What is killed. Writes until then, if it is told where.
#[test]
#[ignore = "the test above runs it"]
fn write() {
    let Ok(path) = env::var(DATABASE) else {
        return;
    };
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number(SEED).expect("a number");
    let mut archive = open(Path::new(&path));
    let mut subject = Subject::new(number(NOW).expect("a number"));
    for operation in Plan::new(seed, 0) {
        subject
            .apply(&mut archive, &operation)
            .expect("the plan is sound");
        let mut out = io::stdout().lock();
        writeln!(out, "\n{DONE}")
            .and_then(|()| out.flush())
            .expect("somebody listens");
    }
}

/// Returns how many operations were acknowledged.
fn run_and_kill(path: &Path, seed: u64, now: u64) -> usize {
    let mut luck = ChaCha12Rng::seed_from_u64(seed);
    let wanted = luck.random_range(5..200);
    let moment = Duration::from_micros(luck.random_range(0..2_000));

    let mut app = start(path, seed, now);
    let out = BufReader::new(app.stdout.take().expect("it is piped"));
    let mut done = out
        .lines()
        .map_while(Result::ok)
        .filter(|line| line == DONE);
    assert_eq!(
        done.by_ref().take(wanted).count(),
        wanted,
        "it writes until it is killed"
    );
    thread::sleep(moment);
    app.kill().expect("killed");
    app.wait().expect("ended");
    wanted + done.count()
}

fn start(path: &Path, seed: u64, now: u64) -> Child {
    Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "write", "--ignored", "--nocapture"])
        .env(DATABASE, path)
        .env(SEED, seed.to_string())
        .env(NOW, now.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started")
}

fn reopen(path: &Path) -> Archive {
    let archive = open(path);
    for summary in archive.conversations().expect("listed") {
        assert!(!summary.answering, "nothing is left under way");
    }
    archive
}

fn open(path: &Path) -> Archive {
    let (archive, found) = Archive::open(path, 1).expect("opened");
    assert_eq!(found.set_aside, None);
    archive
}

/// What is done: conversations of some questions, whose answers are written piece by piece; now and then one is asked again
/// or edited, a message or an older conversation deleted.
struct Plan {
    luck: ChaCha12Rng,
    /// The conversation that is held.
    talk: usize,
    /// Of its own, where conversations begin.
    first: usize,
    n_asked: u32,
    pieces_left: u32,
    queued: Vec<Operation>,
}

impl Plan {
    fn new(seed: u64, first: usize) -> Self {
        Self {
            luck: ChaCha12Rng::seed_from_u64(!seed),
            talk: first,
            first,
            n_asked: 0,
            pieces_left: 0,
            queued: vec![Operation::Create],
        }
    }

    fn ask(&mut self) -> Operation {
        self.pieces_left = self.luck.random_range(5..40);
        self.n_asked += 1;
        let text = format!("question {}", self.n_asked);
        match self.luck.random_range(0..8) {
            _ if self.n_asked == 1 => Operation::Ask(self.talk, text),
            0 => Operation::Edit(self.talk, 0, text),
            1 => Operation::Again(self.talk),
            2 => {
                self.talk += 1;
                self.n_asked = 1;
                self.queued.push(Operation::Ask(self.talk, text));
                if self.talk > self.first + 1 {
                    self.queued.push(Operation::Delete(self.talk - 2));
                }
                Operation::Create
            }
            3 => {
                self.queued.push(Operation::Ask(self.talk, text));
                Operation::DeleteMessage(self.talk, 1)
            }
            _ => Operation::Ask(self.talk, text),
        }
    }

    fn piece(&mut self) -> String {
        const WORDS: [&str; 6] = ["a ", "word ", "größer ", "北京", "🙂", "\n\n```rust\n"];
        let n_words = self.luck.random_range(1..4);
        (0..n_words)
            .map(|_| WORDS[self.luck.random_range(0..WORDS.len())])
            .collect()
    }
}

impl Iterator for Plan {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        if let Some(operation) = self.queued.pop() {
            return Some(operation);
        }
        Some(match self.pieces_left {
            0 => self.ask(),
            1 => {
                self.pieces_left = 0;
                Operation::End(self.talk, Ending::Complete)
            }
            n => {
                self.pieces_left = n - 1;
                match n {
                    7 => Operation::Note(self.talk),
                    _ => Operation::Append(self.talk, self.piece()),
                }
            }
        })
    }
}
