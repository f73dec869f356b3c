//! Real phones in real networks: `lingualinked` in network namespaces, joined by `netshim`.
//!
//! It needs what `netshim` needs: root, `/dev/net/tun` and `ip`. Where one is missing, every test is reported as
//! ignored, with the reason above; those that need another program (avahi) are ignored without it.

#![expect(
    clippy::print_stdout,
    reason = "says why tests are ignored, and figures"
)]

mod answers;
mod discovery;
mod elections;
mod group;
mod looker;
mod node;
mod restarts;
mod shards;

use std::cell::RefCell;
use std::error::Error;
use std::panic;

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

/// How a test ends.
pub type TestResult = Result<(), Box<dyn Error>>;

/// A test: its name, what it does, and what it needs beside netshim.
pub type Test = (&'static str, fn() -> TestResult, &'static [&'static str]);

/// Groups whose tests run at once: their phones mostly wait.
const GROUPS_AT_ONCE: usize = 3;

thread_local! {
    /// What the test of this thread has to say should it fail.
    static WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what helps to find out why the test of this thread fails; it is told with the failure, after all tests.
pub fn note(words: &str) {
    WORDS.with_borrow_mut(|all| {
        all.push_str(words);
        all.push('\n');
    });
}

fn main() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        note(&panic.to_string());
        default(panic);
    }));
    let arguments = Arguments::from_args();
    let missing = netshim::requirements().err();
    if let Some(missing) = &missing {
        println!("ignored: {missing}");
    }

    // What is found is found within a promised time, which phones that compute would take away.
    let alone = run(&arguments, 1, missing.is_some(), &[discovery::TESTS]);
    let groups = run(
        &arguments,
        GROUPS_AT_ONCE,
        missing.is_some(),
        &[
            elections::TESTS,
            restarts::TESTS,
            answers::TESTS,
            shards::TESTS,
        ],
    );
    if alone.has_failed() || groups.has_failed() {
        std::process::exit(101);
    }
}

/// Runs tests, so many at a time unless the command line says otherwise.
fn run(arguments: &Arguments, at_once: usize, ignore: bool, tests: &[&[Test]]) -> Conclusion {
    let mut arguments = arguments.clone();
    arguments.test_threads = arguments.test_threads.or(Some(at_once));

    let trials = tests
        .iter()
        .copied()
        .flatten()
        .map(|&(name, test, programs)| {
            let absent = programs.iter().find(|program| !is_installed(program));
            if let (Some(program), false) = (absent, ignore) {
                println!("{name} is ignored: no program `{program}`");
            }
            let trial = Trial::test(name, move || attempt(test));
            trial.with_ignored_flag(ignore || absent.is_some())
        });

    libtest_mimic::run(&arguments, trials.collect())
}

/// Runs a test. A failure comes with what its phones said last.
fn attempt(test: fn() -> TestResult) -> Result<(), Failed> {
    WORDS.take();
    let result = panic::catch_unwind(test);
    let words = WORDS.take();

    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error}\n{words}").into()),
        Err(_) => Err(words.into()), // the panic's own are among them
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);

    folders
        .map(|folder| folder.join(program))
        .any(|file| file.is_file())
}
