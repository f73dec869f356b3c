//! `lingualinked nearby` inside a phone, and what it has shown.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use netshim::Phone;
use serde_json::Value;

use crate::TestResult;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_lingualinked");

/// A running `lingualinked nearby --json`; ended when dropped.
#[derive(Debug)]
pub struct Looker {
    child: Child,
    lines: Receiver<Value>,
    heard: Vec<Value>,
}

impl Looker {
    /// Starts looking around, as `name`.
    pub fn start(phone: &Phone, name: &str, options: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut child = phone
            .command(PROGRAM)
            .args(["nearby", "--json", "--seconds", "120", "--name", name])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().ok_or("it has a standard output")?;
        thread::spawn(move || read(stdout, &sender));

        Ok(Self {
            child,
            lines,
            heard: Vec::new(),
        })
    }

    /// Waits until it has shown a line that `wanted` finds, and returns that. Lines stay heard.
    pub fn wait(
        &mut self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Box<dyn Error>> {
        let deadline = Instant::now() + patience;

        loop {
            if let Some(line) = self.heard.iter().find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no {what} in {patience:?}: {:?}", self.heard).into());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("it ended without {what}: {:?}", self.heard).into());
                }
            }
        }
    }

    /// Waits until it sees a phone of this name, and returns the line.
    pub fn sees(&mut self, name: &str, patience: Duration) -> Result<Value, Box<dyn Error>> {
        self.wait(patience, &format!("sighting of {name}"), |line| {
            is_sighting(line, name)
        })
    }

    /// Waits until it knows where it is, and returns the first address.
    pub fn address(&mut self) -> Result<String, Box<dyn Error>> {
        let line = self.wait(Duration::from_secs(20), "addresses", |line| {
            line["event"] == "addresses" && line["addresses"][0].is_string()
        })?;

        Ok(line["addresses"][0]
            .as_str()
            .ok_or("just looked at")?
            .into())
    }

    /// Checks that it sees nobody of this name for a while.
    pub fn does_not_see(&mut self, name: &str, calm: Duration) -> TestResult {
        match self.sees(name, calm) {
            Ok(line) => Err(format!("it should not see {line}").into()),
            Err(_) => Ok(()),
        }
    }

    /// Forgets what it has shown.
    pub fn forget(&mut self) {
        while self.lines.try_recv().is_ok() {}
        self.heard.clear();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn read(stdout: ChildStdout, sender: &mpsc::Sender<Value>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
        if sender.send(line).is_err() {
            return; // nobody looks
        }
    }
}

/// Returns whether a line says that a phone of this name is near.
pub fn is_sighting(line: &Value, name: &str) -> bool {
    line["event"] == "sighted" && line["name"] == name
}
