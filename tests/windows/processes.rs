//! Programs that start others: all of them end with the value that stands for them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use netshim::Phone;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A program, and whatever it started: one process group.
#[derive(Debug)]
pub struct Processes(Child);

impl Processes {
    /// Starts `command` as the first of a group. What it says goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> std::io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
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
            .stdin(Stdio::null())
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

/// Kills the program `executable` within a phone, as a system does that needs the memory; says whether it ran.
pub fn kill_in(phone: &Phone, executable: &Path) -> std::io::Result<bool> {
    let pids = Command::new("ip")
        .args(["netns", "pids", phone.namespace()])
        .output()?;
    let pids = String::from_utf8_lossy(&pids.stdout);
    let pids = pids.lines().filter_map(|line| line.parse::<i32>().ok());
    let mut killed = false;

    for pid in pids {
        let runs = std::fs::read_link(format!("/proc/{pid}/exe"));
        if runs.is_ok_and(|runs| runs == executable) {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            killed = true;
        }
    }
    Ok(killed)
}
