//! A network of phones: put up, changed while it runs, taken down.
//!
//! ```no_run
//! use netshim::{Link, Net, NetOptions, Profile};
//!
//! let net = Net::new(NetOptions::phones(3).profile(Profile::Wifi).seed(7))?;
//! let mut node = net.phone(0).command("sleep").arg("60").spawn()?;
//!
//! net.set_link(0, 1, Link { loss: 0.05, ..Profile::Wifi.link() })?;
//! net.partition(&[&[0, 1], &[2]])?;
//! net.heal()?;
//! net.unplug(1)?;
//!
//! node.kill()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Dropping the [`Net`] ends what still runs in its phones and removes them, also while a panic
//! unwinds. What a killed process leaves is removed by the next [`Net::new`] or by `netshim clean`.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::command::{Command, CommandError, PhoneStatus, Reply};
use crate::link::{Link, Profile};
use crate::namespace::{Namespace, NamespaceError, clean, network_prefix};
use crate::pump::{ANSWER_TIMEOUT, Answer, Pump, Request};
use crate::switch::{Counters, PHONES_MAX, Switch, mac};

/// What a phone calls its interface. Programs that avoid `tun*` and the like accept it.
pub const INTERFACE: &str = "wlan0";

/// The last byte of the access point's address. It is nobody: frames to it are dropped.
const GATEWAY: u8 = 254;

/// The access point's MAC address, entered in every phone so that nobody need ask for it.
const GATEWAY_MAC: &str = "02:77:00:00:ff:fe";

/// How a network starts.
#[derive(Debug, Clone)]
pub struct NetOptions {
    names: Vec<String>,
    profile: Profile,
    seed: u64,
    gateway: bool,
    subnet: u8,
}

impl NetOptions {
    /// `n_phones` called `phone-0`, `phone-1`, … under [`Profile::Wifi`], seed 0, with a gateway.
    pub fn phones(n_phones: usize) -> Self {
        Self::named((0..n_phones).map(|phone| format!("phone-{phone}")))
    }

    /// Phones with names of one's own, shown in the status.
    pub fn named(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            names: names.into_iter().map(Into::into).collect(),
            profile: Profile::Wifi,
            seed: 0,
            gateway: true,
            subnet: 0,
        }
    }

    /// The links to start with.
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// What names the luck: the n-th frame from one phone to another is lost, or not, by the seed.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Whether phones have a default route, as on a real Wi-Fi. Nobody answers behind it.
    pub fn gateway(self, gateway: bool) -> Self {
        Self { gateway, ..self }
    }

    /// The third byte of the addresses: phone `i` is `10.77.subnet.(i + 1)`.
    ///
    /// Networks cannot hear each other, so only the eye needs different ones.
    pub fn subnet(self, subnet: u8) -> Self {
        Self { subnet, ..self }
    }
}

/// A running network. See the [module](self).
#[derive(Debug)]
pub struct Net {
    // Fields drop in this order: the phones' processes end after the pump has been joined.
    pump: PumpHandle,
    phones: Vec<Phone>,
}

/// One phone: a namespace with `wlan0` and a loopback.
#[derive(Debug)]
pub struct Phone {
    name: String,
    namespace: Namespace,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

/// Why a network could not be put up or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Between 1 and [`PHONES_MAX`] fit.
    #[error("{0} phones: a network has 1 to {PHONES_MAX}")]
    PhoneCount(usize),
    /// A namespace could not be made, entered or changed.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A phone's TAP or its settings could not be made.
    #[error("cannot {what} in {namespace}")]
    Tap {
        /// What was tried.
        what: String,
        /// Where.
        namespace: String,
        /// Why not.
        source: io::Error,
    },
    /// The thread between the TAPs could not be started.
    #[error("cannot start the pump")]
    Start(#[source] io::Error),
    /// The command does not fit this network.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The thread between the TAPs has ended, or did not answer in time.
    #[error("the pump does not answer")]
    Gone,
}

impl Net {
    /// Puts up namespaces, TAPs and the switch. About 20 ms per phone.
    ///
    /// # Errors
    ///
    /// [`NetError`]; nothing is left behind. [`crate::requirements`] tells beforehand.
    pub fn new(options: NetOptions) -> Result<Self, NetError> {
        let n_phones = options.names.len();
        if !(1..=PHONES_MAX).contains(&n_phones) {
            return Err(NetError::PhoneCount(n_phones));
        }

        match clean() {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(?removed, "Removed what a killed run left"),
            Err(error) => tracing::warn!(%error, "What a killed run left stays"),
        }

        let prefix = network_prefix();
        let mut phones = Vec::new();
        let mut taps = Vec::new();
        for index in 0..n_phones {
            let (phone, tap) = Phone::create(&options, &prefix, index)?;
            phones.push(phone);
            taps.push(tap);
        }

        let switch = Switch::new(n_phones, options.profile.link(), options.seed);
        let pump = PumpHandle::start(taps, switch)?;
        Ok(Self { pump, phones })
    }

    /// Returns phone `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// If there is no such phone.
    pub fn phone(&self, index: usize) -> &Phone {
        &self.phones[index]
    }

    /// Returns all phones in order.
    pub fn phones(&self) -> &[Phone] {
        &self.phones
    }

    /// Puts every link under a profile, also those set apart.
    ///
    /// # Errors
    ///
    /// As every method below: [`NetError::Command`] if the arguments do not fit this network (nothing
    /// is changed then), [`NetError::Gone`] if the pump has ended.
    pub fn set_profile(&self, profile: Profile) -> Result<(), NetError> {
        self.apply(Command::SetProfile { profile }).map(drop)
    }

    /// Gives every link the same figures, also those set apart.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`].
    pub fn set_all(&self, link: Link) -> Result<(), NetError> {
        self.apply(Command::SetAll { link }).map(drop)
    }

    /// Sets the link between `a` and `b` apart, in both directions.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`].
    pub fn set_link(&self, a: usize, b: usize, link: Link) -> Result<(), NetError> {
        let one_way = false;
        self.apply(Command::SetLink {
            a,
            b,
            link,
            one_way,
        })
        .map(drop)
    }

    /// Sets the link from `a` to `b` apart, and leaves the way back.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`].
    pub fn set_link_one_way(&self, a: usize, b: usize, link: Link) -> Result<(), NetError> {
        let one_way = true;
        self.apply(Command::SetLink {
            a,
            b,
            link,
            one_way,
        })
        .map(drop)
    }

    /// Cuts the network into groups; phones that none names make one more group together.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`].
    pub fn partition(&self, groups: &[&[usize]]) -> Result<(), NetError> {
        let groups = groups.iter().map(|group| group.to_vec()).collect();
        self.apply(Command::Partition { groups }).map(drop)
    }

    /// Joins all groups again.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`].
    pub fn heal(&self) -> Result<(), NetError> {
        self.apply(Command::Heal).map(drop)
    }

    /// Pulls a phone's cable: its interface has no carrier, as when a phone loses its Wi-Fi. Its
    /// addresses stay.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`], and [`NetError::Namespace`] if the carrier cannot be switched.
    pub fn unplug(&self, phone: usize) -> Result<(), NetError> {
        self.apply(Command::Unplug { phone }).map(drop)
    }

    /// Puts a phone's cable back.
    ///
    /// # Errors
    ///
    /// As [`Net::unplug`].
    pub fn plug(&self, phone: usize) -> Result<(), NetError> {
        self.apply(Command::Plug { phone }).map(drop)
    }

    /// Stops or lets pass multicast to and from a phone.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`].
    pub fn block_multicast(&self, phone: usize, blocked: bool) -> Result<(), NetError> {
        self.apply(Command::BlockMulticast { phone, blocked })
            .map(drop)
    }

    /// Stops or lets pass what is for one phone alone, to and from a phone.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`].
    pub fn block_unicast(&self, phone: usize, blocked: bool) -> Result<(), NetError> {
        self.apply(Command::BlockUnicast { phone, blocked })
            .map(drop)
    }

    /// Returns what a phone's frames went through.
    ///
    /// # Errors
    ///
    /// As [`Net::set_profile`].
    pub fn counters(&self, phone: usize) -> Result<Counters, NetError> {
        let ports = self.pump.ask(Command::Status)?.ports;
        let n_phones = ports.len();
        let port = ports
            .get(phone)
            .ok_or(CommandError::NoSuchPhone { phone, n_phones })?;
        Ok(port.counters)
    }

    /// Puts any command into force and answers it; what the methods above and the socket call.
    ///
    /// # Errors
    ///
    /// As the method for the command.
    pub fn apply(&self, command: Command) -> Result<Reply, NetError> {
        let Answer { link, ports } = self.pump.ask(command.clone())?;

        if let Command::Unplug { phone } | Command::Plug { phone } = command {
            let carrier = if ports[phone].plugged { "on" } else { "off" };
            self.phones[phone]
                .namespace
                .ip(&["link", "set", INTERFACE, "carrier", carrier])?;
        }

        if matches!(command, Command::Status) {
            let phones = self.phones.iter().zip(ports);
            let phones = phones.map(|(phone, port)| phone.status(port)).collect();
            return Ok(Reply::Phones { phones });
        }
        Ok(link.map_or(Reply::Done, |link| Reply::Link { link }))
    }
}

impl Phone {
    /// What the options called it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its namespace, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// The address of its `wlan0`, in a /24.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// The link-local address of its `wlan0`.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.ipv6
    }

    /// Prepares to run a program inside. The child's process id is the program's own.
    pub fn command(&self, program: &str) -> Process {
        let mut process = Process::new("ip");
        process.args(["netns", "exec", self.namespace.name(), program]);
        process
    }

    /// Runs `f` on a thread inside and returns what it returned: sockets opened there belong to the
    /// phone, wherever they are used later.
    ///
    /// # Errors
    ///
    /// [`NetError::Namespace`] if somebody removed the namespace.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, NetError> {
        Ok(self.namespace.enter(f)?)
    }

    /// Makes the namespace, its TAP and its addresses.
    fn create(
        options: &NetOptions,
        prefix: &str,
        index: usize,
    ) -> Result<(Self, SyncDevice), NetError> {
        let namespace = Namespace::create(format!("{prefix}-{index}"))?;
        let tap = namespace
            .enter(|| open_tap(index))?
            .map_err(|(what, source)| NetError::Tap {
                what,
                namespace: namespace.name().to_owned(),
                source,
            })?;

        let last = u8::try_from(index + 1).expect("at most PHONES_MAX phones");
        let phone = Self {
            name: options.names[index].clone(),
            namespace,
            ipv4: Ipv4Addr::new(10, 77, options.subnet, last),
            ipv6: link_local(index),
        };
        phone.configure(options)?;
        Ok((phone, tap))
    }

    /// Addresses, up, and the way to the gateway.
    fn configure(&self, options: &NetOptions) -> Result<(), NetError> {
        let ip = |line: &str| self.namespace.ip(&line.split(' ').collect::<Vec<_>>());

        ip(&format!("addr add {}/24 brd + dev {INTERFACE}", self.ipv4))?;
        ip(&format!("link set {INTERFACE} up"))?;
        if options.gateway {
            let gateway = Ipv4Addr::new(10, 77, options.subnet, GATEWAY);
            ip(&format!(
                "neigh add {gateway} lladdr {GATEWAY_MAC} nud permanent dev {INTERFACE}"
            ))?;
            ip(&format!("route add default via {gateway} dev {INTERFACE}"))?;
        }
        Ok(())
    }

    fn status(&self, port: crate::command::PortStatus) -> PhoneStatus {
        PhoneStatus {
            name: self.name.clone(),
            namespace: self.namespace.name().to_owned(),
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            port,
        }
    }
}

/// Opens `wlan0` of the namespace that the calling thread is in. It goes when the device is dropped.
fn open_tap(index: usize) -> Result<SyncDevice, (String, io::Error)> {
    // Without duplicate address detection and router solicitation, an IPv6 address is ready at once:
    // both wait seconds for answers that cannot come here.
    for setting in ["all/accept_dad", "default/accept_dad", "default/accept_ra"] {
        let path = format!("/proc/sys/net/ipv6/conf/{setting}");
        fs::write(&path, "0").map_err(|error| (format!("write {path}"), error))?;
    }

    let tap = DeviceBuilder::new()
        .layer(Layer::L2)
        .name(INTERFACE)
        .mac_addr(mac(index))
        .enable(false)
        .build_sync()
        .map_err(|error| ("open a TAP".to_owned(), error))?;
    let unblock = tap.set_nonblocking(true);
    unblock.map_err(|error| ("unblock the TAP".to_owned(), error))?;
    Ok(tap)
}

/// The address that the kernel makes of the MAC address (RFC 4291, appendix A).
fn link_local(index: usize) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac(index).map(u16::from);
    let universal = (a ^ 2) << 8;
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        universal | b,
        c << 8 | 0xff,
        0xfe00 | d,
        e << 8 | f,
    )
}

/// The pump's thread, ended and joined when dropped.
#[derive(Debug)]
struct PumpHandle {
    requests: Sender<Request>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl PumpHandle {
    fn start(taps: Vec<SyncDevice>, switch: Switch) -> Result<Self, NetError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).map_err(|error| NetError::Start(error.into()))?;
        let wake = Arc::new(wake);
        let (requests, incoming): (_, Receiver<Request>) = channel();

        let pump = Pump::new(taps, switch, incoming, Arc::clone(&wake));
        let thread = thread::Builder::new().name("netshim".to_owned());
        let thread = thread.spawn(|| pump.run()).map_err(NetError::Start)?;
        Ok(Self {
            requests,
            wake,
            thread: Some(thread),
        })
    }

    fn ask(&self, command: Command) -> Result<Answer, NetError> {
        let (reply, answer) = sync_channel(1);
        self.send(Request::Apply(command, reply))?;
        let answer = answer
            .recv_timeout(ANSWER_TIMEOUT)
            .map_err(|_| NetError::Gone)?;
        Ok(answer?)
    }

    fn send(&self, request: Request) -> Result<(), NetError> {
        self.requests.send(request).map_err(|_| NetError::Gone)?;
        self.wake.write(1).map_err(|_| NetError::Gone)?;
        Ok(())
    }
}

impl Drop for PumpHandle {
    fn drop(&mut self) {
        let stopped = self.send(Request::Stop);
        if let Some(thread) = self.thread.take()
            && stopped.is_ok()
            && thread.join().is_err()
        {
            tracing::error!("The pump had panicked");
        }
    }
}
