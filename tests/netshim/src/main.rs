//! The `netshim` program: a network of phones for the shell.
//!
//! ```text
//! netshim run --phones 3 --profile wifi &      # until Ctrl-C; prints the phones
//! netshim exec 0 -- lingualinked node …        # inside phone 0
//! netshim set 0 1 --delay-ms 80 --loss 0.05    # what is not named stays as it is
//! netshim partition 0,1 2; netshim heal
//! netshim unplug 2; netshim plug 2
//! netshim status
//! ```

#![expect(
    clippy::print_stdout,
    reason = "a program for the shell answers on standard output"
)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use netshim::socket::{CommandSocket, DEFAULT_PATH, ask};
use netshim::{Command, Link, Net, NetOptions, PhoneStatus, Profile, Reply, bench, namespace};
use nix::sys::signal::{SigSet, Signal};

/// Phones as network namespaces, joined by a switch that delays, loses and cuts.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Where the running network listens for commands.
    #[arg(long, global = true, default_value = DEFAULT_PATH)]
    socket: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Put up a network and keep it until SIGINT or SIGTERM.
    Run(Run),
    /// Run a program inside a phone.
    Exec {
        /// Counted from 0.
        phone: usize,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
    /// Put every link under a profile, also those set apart.
    Profile {
        /// Which.
        profile: Profile,
    },
    /// Change the link between two phones; what is not named stays.
    Set(Set),
    /// Cut the network into groups: `netshim partition 0,1 2`. Phones not named stay together.
    Partition {
        /// Phones, with commas between.
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Join all groups again.
    Heal,
    /// Pull a phone's cable.
    Unplug {
        /// Counted from 0.
        phone: usize,
    },
    /// Put a phone's cable back.
    Plug {
        /// Counted from 0.
        phone: usize,
    },
    /// Stop multicast to and from a phone.
    BlockMulticast {
        /// Counted from 0.
        phone: usize,
        /// Let it pass again.
        #[arg(long)]
        off: bool,
    },
    /// Stop what is for one phone alone, to and from a phone.
    BlockUnicast {
        /// Counted from 0.
        phone: usize,
        /// Let it pass again.
        #[arg(long)]
        off: bool,
    },
    /// Print every phone's addresses, state and counters.
    Status {
        /// As one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send one command in JSON, as the socket takes it, and print the reply.
    Send {
        /// For example `{"cmd":"heal"}`.
        command: String,
    },
    /// Remove the namespaces that killed runs left behind.
    Clean,
    /// Measure what the switch carries and what it adds.
    Bench {
        /// For each of about ten steps.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
}

#[derive(Args)]
struct Run {
    /// How many.
    #[arg(long, default_value_t = 3)]
    phones: usize,
    /// The links to start with.
    #[arg(long, value_enum, default_value_t = Profile::Wifi)]
    profile: Profile,
    /// What names the luck.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Give the phones no default route.
    #[arg(long)]
    no_gateway: bool,
}

#[derive(Args)]
struct Set {
    /// The sending phone.
    a: usize,
    /// The receiving phone.
    b: usize,
    /// Leave the way back.
    #[arg(long)]
    one_way: bool,
    /// One-way delay.
    #[arg(long)]
    delay_ms: Option<f64>,
    /// How far the delay wanders to either side.
    #[arg(long)]
    jitter_ms: Option<f64>,
    /// Share of frames lost, 0 to 1.
    #[arg(long)]
    loss: Option<f64>,
    /// Millions of bits per second; 0 for no limit.
    #[arg(long)]
    rate_mbps: Option<f64>,
    /// Whether a later frame may arrive earlier.
    #[arg(long)]
    reorder: Option<bool>,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let Cli { socket, verb } = Cli::parse();

    match verb {
        Verb::Run(options) => run(&socket, &options),
        Verb::Exec { phone, program } => exec(&socket, phone, &program),
        Verb::Profile { profile } => change(&socket, &Command::SetProfile { profile }),
        Verb::Set(set) => change(&socket, &set.command(&socket)?),
        Verb::Partition { groups } => change(&socket, &partition(&groups)?),
        Verb::Heal => change(&socket, &Command::Heal),
        Verb::Unplug { phone } => change(&socket, &Command::Unplug { phone }),
        Verb::Plug { phone } => change(&socket, &Command::Plug { phone }),
        Verb::BlockMulticast { phone, off } => {
            let blocked = !off;
            change(&socket, &Command::BlockMulticast { phone, blocked })
        }
        Verb::BlockUnicast { phone, off } => {
            let blocked = !off;
            change(&socket, &Command::BlockUnicast { phone, blocked })
        }
        Verb::Status { json } => status(&socket, json),
        Verb::Send { command } => send(&socket, &command),
        Verb::Clean => clean(),
        Verb::Bench { seconds } => {
            netshim::requirements()?;
            print!("{}", bench::run(Duration::try_from_secs_f64(seconds)?)?);
            Ok(())
        }
    }
}

fn run(socket: &Path, options: &Run) -> anyhow::Result<()> {
    netshim::requirements()?;
    let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    ends.thread_block().context("cannot wait for signals")?;

    let net = NetOptions::phones(options.phones)
        .profile(options.profile)
        .seed(options.seed)
        .gateway(!options.no_gateway);
    let net = Arc::new(Net::new(net)?);
    let _commands = CommandSocket::listen(socket, &net)?;

    status(socket, false)?;
    println!(
        "Commands at {}. Ctrl-C ends the network and what runs in it.",
        socket.display()
    );
    ends.wait().context("cannot wait for signals")?;
    Ok(())
}

fn exec(socket: &Path, phone: usize, program: &[String]) -> anyhow::Result<()> {
    let phones = phones(socket)?;
    let Some(status) = phones.get(phone) else {
        bail!(
            "there is no phone {phone}: this network has {}",
            phones.len()
        );
    };
    let error = Process::new("ip")
        .args(["netns", "exec", &status.namespace])
        .args(program)
        .exec();
    Err(error).context("cannot run `ip`")
}

impl Set {
    /// Fills in what is not named from the figures in force.
    fn command(&self, socket: &Path) -> anyhow::Result<Command> {
        let (a, b) = (self.a, self.b);
        let Reply::Link { link } = reply(socket, &Command::Link { a, b })? else {
            bail!("the network answered something else than the link");
        };

        let rate_mbps = match self.rate_mbps {
            Some(0.0) => None,
            Some(rate) => Some(rate),
            None => link.rate_mbps,
        };
        let link = Link {
            delay_ms: self.delay_ms.unwrap_or(link.delay_ms),
            jitter_ms: self.jitter_ms.unwrap_or(link.jitter_ms),
            loss: self.loss.unwrap_or(link.loss),
            rate_mbps,
            reorder: self.reorder.unwrap_or(link.reorder),
        };
        let one_way = self.one_way;
        Ok(Command::SetLink {
            a,
            b,
            link,
            one_way,
        })
    }
}

fn partition(groups: &[String]) -> anyhow::Result<Command> {
    let group = |group: &String| {
        let phones = group.split(',').map(|phone| phone.trim().parse());
        let phones = phones.collect::<Result<Vec<usize>, _>>();
        phones.with_context(|| format!("`{group}` is not a list of phones such as 0,1"))
    };
    let groups = groups.iter().map(group).collect::<Result<_, _>>()?;
    Ok(Command::Partition { groups })
}

fn status(socket: &Path, json: bool) -> anyhow::Result<()> {
    let phones = phones(socket)?;
    if json {
        println!("{}", serde_json::to_string(&phones)?);
        return Ok(());
    }

    for (index, phone) in phones.iter().enumerate() {
        println!("{}", line(index, phone));
    }
    Ok(())
}

/// One phone on one line: what it is, what is wrong with it, what it sent and lost.
fn line(index: usize, phone: &PhoneStatus) -> String {
    let PhoneStatus {
        name,
        namespace,
        ipv4,
        ipv6,
        port,
    } = phone;
    let counters = port.counters;
    let dropped = counters.dropped_lost
        + counters.dropped_overflow
        + counters.dropped_cut
        + counters.dropped_filtered
        + counters.dropped_nobody;

    let mut line = format!("{index}  {name}  {ipv4}  {ipv6}  {namespace}");
    line += &format!("  group {}", port.group);
    line += if port.plugged { "" } else { "  UNPLUGGED" };
    line += if port.multicast_blocked {
        "  NO MULTICAST"
    } else {
        ""
    };
    line += if port.unicast_blocked {
        "  NO UNICAST"
    } else {
        ""
    };
    line += &format!(
        "  sent {} ({} B)  received {} ({} B)  dropped {dropped}",
        counters.sent_frames,
        counters.sent_bytes,
        counters.received_frames,
        counters.received_bytes,
    );
    line
}

fn send(socket: &Path, command: &str) -> anyhow::Result<()> {
    let command = serde_json::from_str(command).context("no command")?;
    println!("{}", serde_json::to_string(&reply(socket, &command)?)?);
    Ok(())
}

fn clean() -> anyhow::Result<()> {
    for name in namespace::clean()? {
        println!("Removed {name}");
    }
    Ok(())
}

/// Sends a command that changes something.
fn change(socket: &Path, command: &Command) -> anyhow::Result<()> {
    reply(socket, command).map(drop)
}

fn phones(socket: &Path) -> anyhow::Result<Vec<PhoneStatus>> {
    let Reply::Phones { phones } = reply(socket, &Command::Status)? else {
        bail!("the network answered something else than its phones");
    };
    Ok(phones)
}

fn reply(socket: &Path, command: &Command) -> anyhow::Result<Reply> {
    let reply = ask(socket, command)?;
    if let Reply::Refused { error } = reply {
        bail!(error);
    }
    Ok(reply)
}
