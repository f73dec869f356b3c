//! Something to send through a network: an echo and a stream, for tests and the benchmark.
//!
//! Nothing here knows of namespaces: a socket belongs to the phone it was opened in
//! ([`crate::Phone::enter`]) and can be used from any thread.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a reply may take before it counts as lost: ten times the worst profile's round trip.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a waiting thread looks whether it is to end.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// A ping of 64 bytes, as `ping` sends.
const PING_BYTES: usize = 64;

/// Enough that the cost of a call does not matter.
const STREAM_BUFFER_BYTES: usize = 256 * 1024;

/// Answers every datagram with itself, until dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Answers what comes to `socket`.
    ///
    /// # Errors
    ///
    /// If the socket takes no timeout.
    pub fn start(socket: UdpSocket) -> io::Result<Self> {
        socket.set_read_timeout(Some(STOP_CHECK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((n_bytes, from)) = socket.recv_from(&mut buffer) {
                    // A lost reply is what a ping is for.
                    let _ = socket.send_to(&buffer[..n_bytes], from);
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends `n` pings to an [`Echo`], `gap` apart, and returns the round trips of those answered.
///
/// # Errors
///
/// If the socket takes no timeout. A ping that cannot be sent is a lost one.
///
/// # Blocking
///
/// Until the last reply, or 1 s after each ping that has none.
pub fn ping(
    socket: &UdpSocket,
    to: SocketAddr,
    n: u64,
    gap: Duration,
) -> io::Result<Vec<Duration>> {
    socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
    let mut round_trips = Vec::new();
    for number in 0..n {
        let mut ping = [0; PING_BYTES];
        ping[..8].copy_from_slice(&number.to_be_bytes());

        let sent = Instant::now();
        if socket.send_to(&ping, to).is_ok() && is_answered(socket, &ping) {
            round_trips.push(sent.elapsed());
        }
        thread::sleep(gap);
    }
    Ok(round_trips)
}

/// Waits for the reply to `ping`, past late ones to earlier pings.
fn is_answered(socket: &UdpSocket, ping: &[u8]) -> bool {
    let mut reply = [0; PING_BYTES];
    let deadline = Instant::now() + REPLY_TIMEOUT;
    while Instant::now() < deadline {
        match socket.recv(&mut reply) {
            Ok(n_bytes) if &reply[..n_bytes] == ping => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Streams from `sender` to `listener` for `warm_up` and then `duration`, and returns the bits per
/// second that arrived in the latter.
///
/// # Errors
///
/// If the connection fails, or 10 s pass without a byte.
///
/// # Blocking
///
/// For both times together.
pub fn stream(
    sender: impl FnOnce() -> io::Result<TcpStream> + Send,
    listener: &TcpListener,
    warm_up: Duration,
    duration: Duration,
) -> io::Result<f64> {
    thread::scope(|scope| {
        let send = scope.spawn(|| send_for(sender()?, warm_up + duration));
        let (receiver, _) = listener.accept()?;
        let rate = receive(receiver, warm_up);
        send.join().expect("the sender does not panic")?;
        rate
    })
}

/// A connection that is silent for so long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(10);

fn send_for(mut stream: TcpStream, duration: Duration) -> io::Result<()> {
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let chunk = vec![0x5a; STREAM_BUFFER_BYTES];
    let end = Instant::now() + duration;
    while Instant::now() < end {
        stream.write_all(&chunk)?;
    }
    Ok(())
}

fn receive(mut stream: TcpStream, warm_up: Duration) -> io::Result<f64> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut buffer = vec![0; STREAM_BUFFER_BYTES];
    let start = Instant::now() + warm_up;
    let mut counted_from = None;
    let mut n_bytes = 0;

    loop {
        let n_read = stream.read(&mut buffer)?;
        let now = Instant::now();
        if n_read == 0 {
            let elapsed = counted_from.map_or(Duration::ZERO, |from| now - from);
            return Ok(n_bytes as f64 * 8.0 / elapsed.as_secs_f64());
        }
        match counted_from {
            None if now >= start => counted_from = Some(now),
            None => {}
            Some(_) => n_bytes += n_read,
        }
    }
}
