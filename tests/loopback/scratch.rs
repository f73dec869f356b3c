//! A folder of a test's own. Every process that a test starts has the folder's name on its command line or
//! its temporary files in it: what is left of them can be found by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// How long processes may take to be gone after the one that started them. The issue asks for 5 s.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a demo may take to start a process.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often to look meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A folder that goes with the test.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("loopback-").tempdir();
        let folder = folder.expect("there is room for a folder");
        fs::create_dir(folder.path().join("tmp")).expect("the folder is ours");

        Self { folder }
    }

    /// Returns the path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns where programs put their temporary files.
    pub fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    /// Writes a file.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("there is room for the file");

        path
    }

    /// Returns the process of the phone called `name`.
    pub fn phone(&self, name: &str) -> u32 {
        self.find_phone(name)
            .unwrap_or_else(|| panic!("{name} is not running"))
    }

    /// Waits until there is a phone called `name`.
    pub fn wait_for_phone(&self, name: &str) {
        let started = Instant::now();
        while self.find_phone(name).is_none() {
            assert!(started.elapsed() < START_TIMEOUT, "{name} is not started");
            thread::sleep(LOOK_EVERY);
        }
    }

    fn find_phone(&self, name: &str) -> Option<u32> {
        let is_it = |process: &Process| process.arguments.iter().any(|argument| argument == name);

        self.processes()
            .into_iter()
            .find(is_it)
            .map(|process| process.id)
    }

    /// Waits until every process is gone, and asserts that it is.
    #[track_caller]
    pub fn assert_no_process(&self) {
        let started = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < GONE_TIMEOUT, "left running: {left:?}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Asserts that no process is left, and no temporary file either.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        self.assert_no_process();
        let files = fs::read_dir(self.tmp()).expect("the folder is there");
        let files = files.map(|file| file.expect("readable").path());
        assert_eq!(
            files.collect::<Vec<_>>(),
            Vec::<PathBuf>::new(),
            "left in the temporary folder"
        );
    }

    fn processes(&self) -> Vec<Process> {
        processes_of(self.folder.path())
    }
}

/// A process of a test.
#[derive(Debug)]
struct Process {
    id: u32,
    arguments: Vec<String>,
}

/// Returns the processes that have `folder` on their command line.
fn processes_of(folder: &Path) -> Vec<Process> {
    let mut system = System::new().expect("this system lists its processes");
    let what = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    let folder = folder.to_str().expect("temporary folders have plain names");

    let processes = system.processes().values().map(|process| Process {
        id: process.pid().as_u32(),
        arguments: process
            .cmd()
            .iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect(),
    });
    processes
        .filter(|p| p.arguments.iter().any(|a| a.contains(folder)))
        .collect()
}
