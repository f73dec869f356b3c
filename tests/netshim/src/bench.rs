//! What the box itself costs: how much it carries, and what it adds to a round trip.
//!
//! What it adds is the difference to a bare pair of virtual interfaces between two namespaces (veth),
//! which the kernel joins without any switch, in the same run. Half of a round trip's difference is
//! what one crossing adds.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::link::{Link, Profile};
use crate::namespace::{Namespace, NamespaceError, network_prefix};
use crate::net::{Net, NetError, NetOptions, Phone};
use crate::pump::prefer_this_thread;
use crate::traffic::{Echo, ping, stream};

/// A little over 500 Mb/s of payload: what the box must carry while it adds little.
const LOAD_MBPS: f64 = 560.0;

/// So that the figures do not depend on slow start.
const WARM_UP: Duration = Duration::from_millis(500);

/// Between pings; long enough for every thread to fall asleep, as between two tokens.
const PING_GAP: Duration = Duration::from_millis(2);

/// Where the echo listens, and the stream ends.
const PORT: u16 = 4077;

/// What was measured.
#[derive(Debug, Clone)]
pub struct Report {
    /// Payload of one TCP stream between two phones without any limit, in Mb/s.
    pub carried_mbps: f64,
    /// Round trips over veth, without the box.
    pub bare: RoundTrips,
    /// Round trips through the idle box.
    pub idle: RoundTrips,
    /// Payload of a stream between two other phones, and round trips beside it.
    pub loaded: (f64, RoundTrips),
    /// Round trips under each profile.
    pub profiles: Vec<(Profile, RoundTrips)>,
}

/// Round trips, sorted.
#[derive(Debug, Clone)]
pub struct RoundTrips(Vec<Duration>);

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The network could not be put up.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The bare pair could not be put up.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A socket failed.
    #[error("the traffic failed")]
    Traffic(#[from] io::Error),
}

/// Measures, for about `duration` at each of its steps.
///
/// # Errors
///
/// [`BenchError`]; nothing is left behind.
///
/// # Blocking
///
/// About ten times `duration`.
pub fn run(duration: Duration) -> Result<Report, BenchError> {
    let bare = bare_round_trips(duration)?;

    let net = Net::new(NetOptions::phones(4).profile(Profile::Loopback))?;
    let idle = round_trips(&net, Profile::Loopback, duration)?;
    let carried_mbps = goodput_mbps(net.phone(0), net.phone(1), duration)?;
    let loaded = round_trips_under_load(&net, duration)?;

    let mut profiles = Vec::new();
    for profile in Profile::ALL {
        net.set_profile(profile)?;
        profiles.push((profile, round_trips(&net, profile, duration)?));
    }
    Ok(Report {
        carried_mbps,
        bare,
        idle,
        loaded,
        profiles,
    })
}

/// Two namespaces joined by the kernel.
fn bare_round_trips(duration: Duration) -> Result<RoundTrips, BenchError> {
    let prefix = network_prefix();
    let a = Namespace::create(format!("{prefix}-a"))?;
    let b = Namespace::create(format!("{prefix}-b"))?;
    a.ip(&[
        "link",
        "add",
        "veth",
        "type",
        "veth",
        "peer",
        "name",
        "veth",
        "netns",
        b.name(),
    ])?;
    for (end, address) in [(&a, "10.77.0.1/24"), (&b, "10.77.0.2/24")] {
        end.ip(&["addr", "add", address, "dev", "veth"])?;
        end.ip(&["link", "set", "veth", "up"])?;
    }

    let socket = a.enter(|| UdpSocket::bind(any(0)))??;
    let echo = b.enter(|| UdpSocket::bind(any(PORT)))??;
    let to = SocketAddr::from((Ipv4Addr::new(10, 77, 0, 2), PORT));
    ping_for(&socket, echo, to, Profile::Loopback, duration)
}

/// Between the last two phones, under a profile that is in force.
fn round_trips(net: &Net, profile: Profile, duration: Duration) -> Result<RoundTrips, BenchError> {
    let (from, to) = (net.phone(2), net.phone(3));
    let socket = from.enter(|| UdpSocket::bind(any(0)))??;
    let echo = to.enter(|| UdpSocket::bind(any(PORT)))??;
    ping_for(
        &socket,
        echo,
        SocketAddr::from((to.ipv4(), PORT)),
        profile,
        duration,
    )
}

/// Between the last two phones while the first two stream.
fn round_trips_under_load(net: &Net, duration: Duration) -> Result<(f64, RoundTrips), BenchError> {
    let rate_mbps = Some(LOAD_MBPS);
    let link = Profile::Loopback.link();
    net.set_link(0, 1, Link { rate_mbps, ..link })?;

    thread::scope(|scope| {
        // Longer than the pings at both ends.
        let load = scope.spawn(|| goodput_mbps(net.phone(0), net.phone(1), duration + WARM_UP));
        thread::sleep(WARM_UP);
        let round_trips = round_trips(net, Profile::Loopback, duration)?;
        let carried_mbps = load.join().expect("the stream does not panic")?;
        Ok((carried_mbps, round_trips))
    })
}

fn goodput_mbps(from: &Phone, to: &Phone, duration: Duration) -> Result<f64, BenchError> {
    let listener = to.enter(|| TcpListener::bind(any(PORT)))??;
    let to = SocketAddr::from((to.ipv4(), PORT));
    let connect = || {
        from.enter(|| TcpStream::connect(to))
            .map_err(io::Error::other)?
    };
    Ok(stream(connect, &listener, WARM_UP, duration)? / 1e6)
}

/// Pings on threads that run before others, so that the box is measured and not the wait for a core.
fn ping_for(
    socket: &UdpSocket,
    echo: UdpSocket,
    to: SocketAddr,
    profile: Profile,
    duration: Duration,
) -> Result<RoundTrips, BenchError> {
    let round_trip_ms = 2.0 * profile.link().delay_ms;
    let each = PING_GAP + Duration::from_secs_f64(round_trip_ms / 1e3);
    let n = (duration.as_secs_f64() / each.as_secs_f64()).ceil() as u64;

    let ping_all = || {
        prefer_this_thread();
        let _echo = Echo::start(echo)?;
        // The first asks for the MAC address and pays for it.
        ping(socket, to, 3, PING_GAP)?;
        ping(socket, to, n, PING_GAP)
    };
    let round_trips = thread::scope(|scope| scope.spawn(ping_all).join());
    let mut round_trips = round_trips.expect("pinging does not panic")?;
    round_trips.sort();
    Ok(RoundTrips(round_trips))
}

fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

impl RoundTrips {
    /// Returns the round trip that `share` of them do not exceed, in milliseconds; `NaN` of none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.0
            .get(index)
            .map_or(f64::NAN, |round_trip| round_trip.as_secs_f64() * 1e3)
    }

    /// Returns what one crossing adds at that quantile, compared with `bare`, in milliseconds.
    pub fn added_ms(&self, bare: &Self, share: f64) -> f64 {
        (self.quantile_ms(share) - bare.quantile_ms(share)) / 2.0
    }
}

impl fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p95, p99] = [0.5, 0.95, 0.99].map(|share| self.quantile_ms(share));
        write!(
            f,
            "median {median:7.3}  p95 {p95:7.3}  p99 {p99:7.3} ms  (n={})",
            self.0.len()
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load_mbps, loaded) = &self.loaded;
        let added = |round_trips: &RoundTrips| {
            let [median, p95] = [0.5, 0.95].map(|share| round_trips.added_ms(&self.bare, share));
            format!("median {median:.3}  p95 {p95:.3} ms")
        };

        writeln!(
            f,
            "carried, no limit set     {:.0} Mb/s of TCP payload",
            self.carried_mbps
        )?;
        writeln!(f, "round trip, veth          {}", self.bare)?;
        writeln!(f, "round trip, idle          {}", self.idle)?;
        writeln!(f, "round trip, {load_mbps:3.0} Mb/s beside {loaded}")?;
        writeln!(f, "added one way, idle       {}", added(&self.idle))?;
        writeln!(f, "added one way, loaded     {}", added(loaded))?;
        for (profile, round_trips) in &self.profiles {
            let (name, set_ms) = (profile.name(), 2.0 * profile.link().delay_ms);
            writeln!(f, "round trip, {name:13} {round_trips}  (set: {set_ms})")?;
        }
        Ok(())
    }
}
