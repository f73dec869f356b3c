//! One running `lingualinked`: what it says, what it is told, how it ends.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::scratch::Scratch;

/// How long a program may be silent. Nothing here takes seconds on a quiet machine; one that has hung
/// is reported after this.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A program that runs. It is killed when it is dropped.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Everything on standard error, once nobody writes to it any more.
    stderr: Receiver<String>,
    said: Vec<String>,
}

/// How a program ended.
pub struct Ended {
    /// Exit status as a shell gives it: 128 and the signal's number if one killed it.
    pub status: i32,
    /// Lines on standard output.
    pub stdout: Vec<String>,
    /// Standard error, that of the programs which it started included.
    pub stderr: String,
}

impl Program {
    /// Starts `lingualinked`, the one just built or the one that `LINGUALINKED` names, with its temporary
    /// files in `scratch`.
    pub fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let program = std::env::var_os("LINGUALINKED");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_lingualinked").into());
        let mut child = Command::new(program)
            .args(arguments)
            .env("TMPDIR", scratch.tmp())
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");

        let stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        let (lines_in, lines) = channel();
        thread::spawn(move || {
            let text = stdout.lines().map_while(Result::ok);
            text.map(|line| lines_in.send(line))
                .take_while(Result::is_ok)
                .count()
        });
        let mut stderr_pipe = child.stderr.take().expect("it was piped");
        let (stderr_in, stderr) = channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr_pipe.read_to_end(&mut bytes); // what has been read is shown
            let _ = stderr_in.send(String::from_utf8_lossy(&bytes).into_owned());
        });

        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            stderr,
            said: Vec::new(),
        }
    }

    /// Starts one that is told nothing and waits for its end.
    pub fn run(scratch: &Scratch, arguments: &[&str]) -> Ended {
        Self::start(scratch, arguments).end()
    }

    /// Returns its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line; `None` after the last.
    pub fn line(&mut self) -> Option<Value> {
        let text = self.text_line()?;

        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}")))
    }

    /// Waits for the next line of one that speaks to people; `None` after the last.
    pub fn text_line(&mut self) -> Option<String> {
        let text = match self.lines.recv_timeout(SILENCE_MAX) {
            Ok(text) => text,
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("silent for {SILENCE_MAX:?} after {:?}", last_of(&self.said))
            }
        };
        self.said.push(text.clone());

        Some(text)
    }

    /// Waits for a line of which `wanted` holds.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.line() {
                Some(line) if wanted(&line) => return line,
                Some(_) => {}
                None => {
                    let stderr = self.stderr.recv_timeout(SILENCE_MAX);
                    panic!("ended after {:?} with {stderr:?}", last_of(&self.said))
                }
            }
        }
    }

    /// Waits for the next line of an event.
    #[track_caller]
    pub fn until_event(&mut self, event: &str) -> Value {
        self.until(|line| line["event"] == event)
    }

    /// Gives it a command.
    pub fn tell(&mut self, command: &Value) {
        self.write(format!("{command}\n").as_bytes());
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("its input has not been closed");
        let written = stdin.write_all(bytes).and_then(|()| stdin.flush());
        written.expect("it reads its input");
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Closes the other end of its standard output once it has said one more line.
    pub fn stop_listening(&mut self) {
        self.lines = channel().1;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal);
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let status = self.wait();
        let stderr = self.stderr.recv_timeout(SILENCE_MAX);
        self.said.extend(self.lines.iter());

        Ended {
            status: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: std::mem::take(&mut self.said),
            stderr: stderr.unwrap_or_else(|_| panic!("it has ended, its standard error has not")),
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            self.said.extend(self.lines.try_iter());
            assert!(
                started.elapsed() < SILENCE_MAX,
                "still running, after {:?}",
                last_of(&self.said)
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Ended {
    /// Shows the last lines: what went before is progress, and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended")
            .field("status", &self.status)
            .field("stdout", &last_of(&self.stdout))
            .field("stderr", &self.stderr)
            .finish()
    }
}

impl Ended {
    /// Returns the lines as JSON.
    pub fn lines(&self) -> impl Iterator<Item = Value> + '_ {
        self.stdout.iter().map(|text| {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
        })
    }

    /// Returns the messages of its errors.
    pub fn errors(&self) -> Vec<String> {
        let errors = self.lines().filter(|line| line["event"] == "error");

        errors
            .map(|line| {
                line["message"]
                    .as_str()
                    .expect("an error has a message")
                    .to_owned()
            })
            .collect()
    }

    /// Asserts that it was refused: status 1, and on standard output one error that has all of `words` in it.
    #[track_caller]
    pub fn assert_refused(&self, words: &[&str]) {
        let errors = self.errors();
        let [message] = &errors[..] else {
            panic!("not one error: {self:#?}");
        };

        assert_eq!(self.status, 1, "{self:#?}");
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message:?}");
        }
        self.assert_quiet();
    }

    /// Asserts that it said something for people on standard error, with all of `words` in it, and ended
    /// with `status`.
    #[track_caller]
    pub fn assert_said(&self, status: i32, words: &[&str]) {
        assert_eq!(self.status, status, "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
    }

    /// Asserts that nothing was written to standard error: no warning, no panic, no leftover of a log.
    #[track_caller]
    pub fn assert_quiet(&self) {
        assert_eq!(self.stderr, "", "{self:#?}");
    }
}

/// Lines that are shown when a test fails.
const SHOWN_LINES: usize = 8;

fn last_of(lines: &[String]) -> &[String] {
    &lines[lines.len().saturating_sub(SHOWN_LINES)..]
}

/// Sends a signal to a process.
pub fn send_signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).expect("process ids are small");
    kill(Pid::from_raw(process), signal).expect("the process is there and ours");
}
