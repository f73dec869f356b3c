//! One network namespace: made, entered, removed, and found again when its maker died.
//!
//! Its name tells who made it: `netshim-<pid>-<start>-<n>-<phone>`, where `start` is when that process
//! started. A number that a later process was given again is therefore no alibi, and [`clean`] can
//! remove what a killed run left behind without touching a running one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// Where `ip netns` keeps its names.
const NAMES_DIR: &str = "/run/netns";

/// What every name of ours starts with.
const PREFIX: &str = "netshim-";

/// Tells the networks of one process apart.
static N_NETWORKS: AtomicU64 = AtomicU64::new(0);

/// A network namespace, removed with everything that runs in it when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// Why a namespace could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The `ip` program refused.
    #[error("`ip {args}` failed: {stderr}")]
    Ip {
        /// What was asked.
        args: String,
        /// What it said.
        stderr: String,
    },
    /// The system refused.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

/// What this machine lacks.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// Namespaces and TAPs are made by root only.
    #[error("not root")]
    Root,
    /// The kernel has no TAP, or the container hides it.
    #[error("no /dev/net/tun")]
    Tun,
    /// The package `iproute2`.
    #[error("no `ip` program (package iproute2)")]
    Ip,
}

/// Checks that this machine can put up a network.
///
/// # Errors
///
/// The first thing that is [`Missing`].
pub fn requirements() -> Result<(), Missing> {
    let run_ip = || Command::new("ip").arg("-V").stdout(Stdio::null()).status();

    if !geteuid().is_root() {
        Err(Missing::Root)
    } else if !Path::new("/dev/net/tun").exists() {
        Err(Missing::Tun)
    } else if !run_ip().is_ok_and(|status| status.success()) {
        Err(Missing::Ip)
    } else {
        Ok(())
    }
}

/// Returns a prefix for the names of one more network of this process.
pub fn network_prefix() -> String {
    let pid = std::process::id();
    let start = start_time(pid).expect("this process is running");
    let n = N_NETWORKS.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{pid}-{start}-{n}")
}

/// Removes the namespaces whose makers are dead, with what runs in them, and returns their names.
///
/// # Errors
///
/// [`NamespaceError`] at the first that cannot be removed.
pub fn clean() -> Result<Vec<String>, NamespaceError> {
    let mut removed = Vec::new();
    for name in names()?.into_iter().filter(|name| is_orphan(name)) {
        match (Namespace { name: name.clone() }).remove() {
            Ok(()) => removed.push(name),
            Err(_) if !names()?.contains(&name) => {} // somebody else was quicker
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

impl Namespace {
    /// Makes a namespace and brings its loopback up.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Ip`] if there is one of that name, or the system refuses.
    pub fn create(name: String) -> Result<Self, NamespaceError> {
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` with `args` on this namespace.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Ip`] with what it said.
    pub fn ip(&self, args: &[&str]) -> Result<(), NamespaceError> {
        ip(&[&["-n", &self.name], args].concat())
    }

    /// Runs `f` on a thread that is inside, and returns what it returned.
    ///
    /// Sockets and TAPs opened there stay inside, wherever they are used later.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Io`] if the namespace is gone.
    ///
    /// # Panics
    ///
    /// If `f` does, with its message.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        let path = PathBuf::from(NAMES_DIR).join(&self.name);
        let inside = || {
            setns(File::open(&path)?, CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        };

        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(|source| io_error(format!("enter namespace {}", self.name), source))
    }

    /// Ends what runs inside and removes the name; the kernel then removes the interfaces.
    fn remove(self) -> Result<(), NamespaceError> {
        let result = self.remove_now();
        std::mem::forget(self);
        result
    }

    fn remove_now(&self) -> Result<(), NamespaceError> {
        for pid in self.pids()? {
            // A process that has ended by itself in the meantime is no error.
            let _ = kill(pid, Signal::SIGKILL);
        }
        ip(&["netns", "del", &self.name])
    }

    /// The processes inside, but for this one (a thread of it may be).
    fn pids(&self) -> Result<Vec<Pid>, NamespaceError> {
        let output = ip_output(&["netns", "pids", &self.name])?;
        let pids = output.lines().filter_map(|line| line.trim().parse().ok());
        Ok(pids
            .map(Pid::from_raw)
            .filter(|pid| *pid != Pid::this())
            .collect())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.remove_now() {
            tracing::warn!(name = self.name, %error, "Namespace stays behind");
        }
    }
}

/// Returns the names of all namespaces of ours, sorted, whoever made them.
///
/// # Errors
///
/// [`NamespaceError::Io`] if they cannot be listed.
pub fn names() -> Result<Vec<String>, NamespaceError> {
    let entries = match fs::read_dir(NAMES_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(format!("list {NAMES_DIR}"), error)),
    };

    let mut names = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect::<Vec<_>>();
    names.sort();
    Ok(names)
}

/// Whether a name is of the form we give and its maker is dead.
fn is_orphan(name: &str) -> bool {
    let maker = || {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let pid = parts.next()?.parse().ok()?;
        let start = parts.next()?.parse().ok()?;
        Some((pid, start))
    };
    maker().is_some_and(|(pid, start): (u32, u64)| start_time(pid) != Some(start))
}

/// When a process started, in clock ticks after boot; `None` if there is none.
fn start_time(pid: u32) -> Option<u64> {
    /// The 22nd field (`man 5 proc_pid_stat`); the 3rd is the first after the name in brackets.
    const START_TIME_AFTER_NAME: usize = 22 - 3;

    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name
        .split_whitespace()
        .nth(START_TIME_AFTER_NAME)?
        .parse()
        .ok()
}

fn ip(args: &[&str]) -> Result<(), NamespaceError> {
    ip_output(args).map(drop)
}

fn ip_output(args: &[&str]) -> Result<String, NamespaceError> {
    let output = Command::new("ip")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| io_error("run `ip`".to_owned(), source))?;

    if !output.status.success() {
        return Err(NamespaceError::Ip {
            args: args.join(" "),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn io_error(what: String, source: io::Error) -> NamespaceError {
    NamespaceError::Io { what, source }
}

#[cfg(test)]
mod tests {
    use super::{PREFIX, is_orphan, network_prefix};

    #[test]
    fn only_the_dead_leave_orphans() {
        let own = network_prefix();

        assert!(!is_orphan(&format!("{own}-0")));
        assert!(
            is_orphan(&format!("{PREFIX}4194305-1-0-0")),
            "no process has that number"
        );
        assert!(
            is_orphan(&format!("{PREFIX}1-1-0-0")),
            "process 1 started at another time"
        );
        assert!(!is_orphan("netshim-notes"), "no name of ours");
        assert!(!is_orphan("somebody-1-1-0-0"));
    }
}
