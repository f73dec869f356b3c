//! `lingualinked nearby`: shows the phones that are found, without being in any group.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use node::discovery::Sources;
use node::discovery::announcement::Announcement;
use node::discovery::store::Origin;
use node::identity;
use node::net::{Net, NetEvent, split_peer};
use proto::PeerId;
use proto::group::{Name, message};
use serde::Serialize;
use tokio::time::timeout_at;

use crate::Outcome;
use crate::interrupts::Interrupts;
use crate::terminal;

/// Options of `nearby`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What this phone is called while it looks
    #[arg(long, default_value = "looking around")]
    pub name: String,
    /// How long to look
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub seconds: f64,
    /// Without libp2p's mDNS
    #[arg(long)]
    pub no_mdns: bool,
    /// Without DNS-SD
    #[arg(long)]
    pub no_dns_sd: bool,
    /// Also knock at every address of this network
    #[arg(long)]
    pub probe: bool,
    /// Also connect to the phone at this address, with or without its /p2p/PEER
    #[arg(long, value_name = "ADDRESS")]
    pub dial: Option<Multiaddr>,
    /// Where to listen [default: every interface]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<Multiaddr>,
    /// Write events as JSON lines
    #[arg(long)]
    pub json: bool,
}

/// Something that was found.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    /// Where this phone may be found.
    Addresses { addresses: Vec<String> },
    /// A phone is near, with news.
    Sighted {
        phone: String,
        name: String,
        version: u16,
        group: Option<String>,
        addresses: Vec<String>,
        after_ms: u128,
    },
    /// A phone is near no more.
    Unsighted { phone: String, after_ms: u128 },
    /// A phone is connected.
    Connected { phone: String, after_ms: u128 },
    /// A phone, or an address, could not be reached.
    NotReached { what: String, reason: String },
}

/// Looks around.
pub async fn run(args: Args, mut interrupts: Interrupts) -> Result<Outcome> {
    let started = Instant::now();
    let mut net = start(&args)?;
    let mut shown = Vec::new();

    loop {
        let until = (started + Duration::from_secs_f64(args.seconds)).into();
        let event = tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Outcome::Interrupted),
            event = timeout_at(until, net.next()) => event,
        };
        let Ok(event) = event else {
            return Ok(Outcome::Done);
        };

        if args.probe && matches!(event, NetEvent::AddressesChanged(_)) {
            net.probe();
        }
        let repeats = is_repeated(&event, &mut shown);
        if let (false, Some(line)) = (repeats, line(event, started.elapsed())) {
            show(&line, args.json)?;
        }
    }
}

fn start(args: &Args) -> Result<Net> {
    let mut net = Net::new(Keypair::generate_ed25519())?;
    let sources = Sources {
        mdns: !args.no_mdns,
        dns_sd: !args.no_dns_sd,
    };
    let announcement = Announcement {
        name: Name::tidy(&args.name),
        version: message::VERSION,
        group: None,
    };

    net.discover(sources, announcement);
    match &args.listen {
        Some(address) => drop(net.listen(address.clone())?),
        None => net.listen_everywhere()?,
    }
    if let Some(address) = &args.dial {
        match split_peer(address.clone()) {
            Ok((phone, address)) => {
                net.learn(Origin::Person, phone, &[address]);
                net.connect(phone, Vec::new());
            }
            Err(_) => net.reach(address.clone()),
        }
    }
    Ok(net)
}

/// What was shown of a phone.
type Shown = (PeerId, Announcement, BTreeSet<Multiaddr>);

/// Phones that stay are sighted again and again: shows each once, and what is new of it.
fn is_repeated(event: &NetEvent, shown: &mut Vec<Shown>) -> bool {
    if let NetEvent::Unsighted(phone) = event {
        shown.retain(|(other, ..)| other != phone);
    }
    let NetEvent::Sighted {
        sighting,
        addresses,
    } = event
    else {
        return false;
    };
    let news = Announcement {
        name: sighting.name.clone(),
        version: sighting.version,
        group: sighting.group,
    };
    let entry = (sighting.peer, news, addresses.iter().cloned().collect());
    if shown.contains(&entry) {
        return true;
    }

    shown.retain(|(other, ..)| *other != sighting.peer);
    shown.push(entry);
    false
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "who looks around takes part in nothing"
)]
fn line(event: NetEvent, after: Duration) -> Option<Line> {
    let after_ms = after.as_millis();

    Some(match event {
        NetEvent::AddressesChanged(addresses) => Line::Addresses {
            addresses: texts(&addresses),
        },
        NetEvent::Sighted {
            sighting,
            addresses,
        } => Line::Sighted {
            phone: id(sighting.peer),
            name: sighting.name.to_string(),
            version: sighting.version,
            group: sighting.group.map(|group| format!("{group:?}")),
            addresses: texts(&addresses),
            after_ms,
        },
        NetEvent::Unsighted(phone) => Line::Unsighted {
            phone: id(phone),
            after_ms,
        },
        NetEvent::Connected(phone) => Line::Connected {
            phone: id(phone),
            after_ms,
        },
        NetEvent::Unreachable { phone, reason, .. } => Line::NotReached {
            what: id(phone),
            reason,
        },
        NetEvent::NotReached {
            address, reason, ..
        } => Line::NotReached {
            what: address.to_string(),
            reason,
        },
        _ => return None,
    })
}

fn show(line: &Line, json: bool) -> std::io::Result<()> {
    let text = match line {
        _ if json => serde_json::to_string(line).expect("our lines are plain data"), // escaped
        Line::Addresses { addresses } => format!("this phone is at {}", addresses.join(", ")),
        Line::Sighted {
            name,
            addresses,
            group,
            ..
        } => {
            let group = if group.is_some() { ", in a group" } else { "" };
            format!("{name}{group}: {}", addresses.join(", "))
        }
        Line::Unsighted { phone, .. } => format!("gone: {phone}"),
        Line::Connected { phone, .. } => format!("connected: {phone}"),
        Line::NotReached { what, reason } => format!("not reached: {what}: {reason}"),
    };

    terminal::say(&text)?;
    std::io::stdout().flush()
}

fn texts(addresses: &[Multiaddr]) -> Vec<String> {
    addresses.iter().map(Multiaddr::to_string).collect()
}

/// Returns a phone's id as libp2p and its DNS-SD record write it.
fn id(phone: PeerId) -> String {
    identity::libp2p_peer(phone).map_or_else(|| phone.to_string(), |peer| peer.to_base58())
}
