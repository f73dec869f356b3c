//! Programs that start others: all of them end with the value that stands for them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use netshim::Phone;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A program, and whatever it started: one process group. Its input stays open and empty.
#[derive(Debug)]
pub struct Processes(Child);

impl Processes {
    /// Starts `command` as the first of a group. What it says goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> std::io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()?;
        Ok(Self(child))
    }

    /// The same for a program that says one line when it is ready, and returns that, too.
    pub fn start_ready(mut command: Command, log: &Path) -> std::io::Result<(Self, String)> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stderr(log)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut processes = Self(child);
        let stdout = processes.0.stdout.take().expect("it was piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;

        Ok((processes, line.trim().to_owned()))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.0.id()).expect("process ids are small"));
        let _ = killpg(group, Signal::SIGKILL); // it may have ended
        let _ = self.0.wait();
    }
}

/// Returns which processes of a phone run the program `executable`.
pub fn running_in(phone: &Phone, executable: &Path) -> std::io::Result<Vec<Pid>> {
    let pids = Command::new("ip")
        .args(["netns", "pids", phone.namespace()])
        .output()?;
    let pids = String::from_utf8_lossy(&pids.stdout);
    let pids = pids.lines().filter_map(|line| line.parse::<i32>().ok());
    let runs = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe"));

    let ours = pids.filter(|pid| runs(pid).is_ok_and(|runs| runs == executable));
    Ok(ours.map(Pid::from_raw).collect())
}
