//! What lies between the phones: delay, loss, cuts, and connections that notice late.
//!
//! A connection is like TCP: in order, and nothing lost while it lasts; a lost packet only costs
//! time. While a link is cut, what was sent waits, and arrives in a burst if the cut ends before
//! the connection is given up on. [`Conditions::datagrams`] takes the order and the patience away.

use std::rc::Rc;

use rand::Rng;
use rand_chacha::ChaCha12Rng;

/// Microseconds since the world began.
pub type Micros = u64;

/// One second.
pub const SECOND: Micros = 1_000_000;

/// One millisecond.
pub const MS: Micros = 1_000;

/// What TCP waits at least before it sends a lost packet again (RFC 6298 says 1 s, Linux 200 ms).
const RETRANSMIT: Micros = 200 * MS;

/// Messages that wait on a cut link before more are dropped: a socket's buffer.
const BACKLOG_MAX: usize = 256;

/// How good the links are.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// One way, at least.
    pub delay: Micros,
    /// At most this much more.
    pub jitter: Micros,
    /// Lost packets of a thousand.
    pub loss_permille: u32,
    /// Messages that arrive twice, of a thousand; only as datagrams.
    pub doubled_permille: u32,
    /// Messages overtake each other, and a lost one stays lost.
    pub datagrams: bool,
}

impl Conditions {
    /// A good evening at home: 5 ± 2 ms.
    pub const WIFI: Self = Self {
        delay: 3 * MS,
        jitter: 4 * MS,
        loss_permille: 0,
        doubled_permille: 0,
        datagrams: false,
    };

    /// A café: 15 ± 10 ms, one packet in a hundred lost.
    pub const BUSY_WIFI: Self = Self {
        delay: 5 * MS,
        jitter: 20 * MS,
        loss_permille: 10,
        doubled_permille: 0,
        datagrams: false,
    };

    /// Worse than any network that we promise to serve.
    pub const TERRIBLE: Self = Self {
        delay: 10 * MS,
        jitter: 120 * MS,
        loss_permille: 100,
        doubled_permille: 50,
        datagrams: true,
    };
}

/// The link between two phones, `a < b`.
#[derive(Debug, Default)]
pub struct Link {
    /// A connection is open, or both still believe so.
    pub connected: bool,
    /// Counts connections: what was sent on an older one never arrives.
    pub generation: u32,
    /// Nothing gets through.
    pub cut: bool,
    /// Nothing gets through this connection, ever: one of the two has another address.
    pub dead: bool,
    /// When the last message arrives, towards `a` and towards `b`.
    last: [Micros; 2],
    /// What waits for the cut to end, with its direction.
    pub backlog: Vec<(bool, Rc<[u8]>)>,
}

/// When a message arrives, once or twice, or not at all.
pub type Arrivals = [Option<Micros>; 2];

impl Link {
    /// Keeps `bytes` until the cut ends.
    pub fn hold(&mut self, to_b: bool, bytes: Rc<[u8]>) {
        if self.backlog.len() < BACKLOG_MAX {
            self.backlog.push((to_b, bytes));
        }
    }

    /// Decides when a message sent at `now` arrives.
    pub fn arrivals(
        &mut self,
        to_b: bool,
        conditions: &Conditions,
        now: Micros,
        rng: &mut ChaCha12Rng,
    ) -> Arrivals {
        let mut lucky = |permille: u32| permille > 0 && rng.random_range(0..1000) < permille;
        let lost = lucky(conditions.loss_permille);
        let doubled = lucky(conditions.doubled_permille);
        let mut delay = || conditions.delay + rng.random_range(0..=conditions.jitter);

        if conditions.datagrams {
            let first = (!lost).then(|| now + delay());
            let second = doubled.then(|| now + delay());
            return [first, second];
        }
        let penalty = if lost { RETRANSMIT } else { 0 };
        let last = &mut self.last[usize::from(to_b)];
        *last = (now + delay() + penalty).max(*last + 1);
        [Some(*last), None]
    }
}
