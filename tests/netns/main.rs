//! Real phones in real networks: `lingualinked` in network namespaces, joined by `netshim`.
//!
//! It needs what `netshim` needs: root, `/dev/net/tun` and `ip`. Where one is missing, every test is reported as
//! ignored, with the reason above; those that need another program (avahi) are ignored without it.

#![expect(
    clippy::print_stdout,
    reason = "says why tests are ignored, and figures"
)]

mod discovery;
mod looker;

use std::error::Error;

use libtest_mimic::{Arguments, Failed, Trial};

/// How a test ends.
pub type TestResult = Result<(), Box<dyn Error>>;

/// A test: its name, what it does, and what it needs beside netshim.
pub type Test = (&'static str, fn() -> TestResult, &'static [&'static str]);

fn main() {
    let mut arguments = Arguments::from_args();
    // Each starts programs that compute; together they would be slower than their limits allow.
    arguments.test_threads = Some(1);
    let missing = netshim::requirements().err();
    if let Some(missing) = &missing {
        println!("ignored: {missing}");
    }

    let trials = discovery::TESTS.iter().map(|&(name, test, programs)| {
        let absent = programs.iter().find(|program| !is_installed(program));
        if let (Some(program), None) = (absent, &missing) {
            println!("{name} is ignored: no program `{program}`");
        }
        let trial = Trial::test(name, move || {
            test().map_err(|error| Failed::from(error.to_string()))
        });
        trial.with_ignored_flag(missing.is_some() || absent.is_some())
    });

    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);

    folders
        .map(|folder| folder.join(program))
        .any(|file| file.is_file())
}
