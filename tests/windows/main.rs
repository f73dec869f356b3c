//! The app in real windows: phones as network namespaces, each with a display of its own, tapped by WebDriver.
//!
//! It needs what `netshim` needs (root, `/dev/net/tun`, `ip`), and `Xvfb`, `dbus-run-session`, `WebKitWebDriver`,
//! `tauri-driver` and ImageMagick's `import`; `.ci/setup windows` installs them. Where one is missing, every test is
//! reported as ignored, with the reason above.
//!
//! Every step is photographed into the folder `LINGUALINKED_SHOTS`, or else into the cache
//! (`~/.cache/lingualinked/shots`), for people to look at.

#![expect(
    clippy::print_stdout,
    reason = "says why tests are ignored, and where the pictures are"
)]

mod apart;
mod crash;
#[path = "../../src-tauri/tests/reference/database.rs"]
mod database;
mod handset;
mod headless;
mod hostile;
mod invite;
mod kept;
mod people;
mod processes;
mod search;
mod shots;
mod story;
mod webdriver;

use std::error::Error;

use libtest_mimic::{Arguments, Failed, Trial};

/// How a test ends.
pub type TestResult = Result<(), Box<dyn Error>>;

/// A test: its name, and what it does.
type Test = (&'static str, fn() -> TestResult);

/// Programs that a window needs, beside those that netshim names.
const PROGRAMS: [&str; 5] = [
    "Xvfb",
    "dbus-run-session",
    "WebKitWebDriver",
    "tauri-driver",
    "import",
];

/// The tests: the story first, because what fails there fails everywhere.
const TESTS: &[Test] = &[
    (
        "three_phones_share_a_model",
        story::three_phones_share_a_model,
    ),
    (
        "a_link_opens_the_app_and_joins",
        invite::a_link_opens_the_app_and_joins,
    ),
    (
        "a_wifi_that_keeps_phones_apart_is_named",
        apart::a_wifi_that_keeps_phones_apart_is_named,
    ),
    (
        "who_is_not_heard_is_found_by_searching_harder",
        search::who_is_not_heard_is_found_by_searching_harder,
    ),
    (
        "a_killed_app_keeps_what_was_said",
        crash::a_killed_app_keeps_what_was_said,
    ),
    (
        "a_hostile_name_only_shows",
        hostile::a_hostile_name_only_shows,
    ),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // Each test fills a small machine: phones that wait for each other would give up.
    arguments.test_threads = Some(1);

    let missing = missing();
    match &missing {
        Some(missing) => println!("ignored: {missing}"),
        None => println!("pictures: {}", shots::folder().display()),
    }
    let trials = TESTS.iter().map(|&(name, test)| {
        let run = move || test().map_err(|error| Failed::from(error.to_string()));
        Trial::test(name, run).with_ignored_flag(missing.is_some())
    });

    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// What this machine lacks.
fn missing() -> Option<String> {
    if let Err(missing) = netshim::requirements() {
        return Some(missing.to_string());
    }
    let absent = PROGRAMS.iter().find(|program| !is_installed(program))?;
    Some(format!("no program `{absent}` (.ci/setup windows)"))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
