//! The thread between the TAPs: it waits, reads, and writes; the [`Switch`] decides.
//!
//! It sleeps in `ppoll` until a TAP has a frame, a frame in flight arrives, or a command comes, so an
//! idle network costs nothing and two cores are left to the phones.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tun_rs::SyncDevice;

use crate::command::{Command, CommandError, PortStatus};
use crate::link::Link;
use crate::switch::Switch;

/// Frames read from one TAP before the others, and what is due, have their turn.
///
/// 64 full frames take 0.2 ms at 3.5 Gb/s, what the box carries (`netshim bench`).
const FRAMES_PER_TURN: usize = 64;

/// The largest frame a TAP hands over: `wlan0` has an MTU of 1,500; a person may raise it.
const FRAME_BYTES_MAX: usize = 65_550;

/// How late the kernel may wake the thread to save an interrupt. The default is 50 µs.
const TIMER_SLACK_NS: u64 = 1_000;

/// How long a turn may take before a command is answered, for whoever waits. A generous guess: a turn
/// is microseconds, but the machine may be busy.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the pump is asked.
pub enum Request {
    /// Put a command into force, or answer it.
    Apply(Command, SyncSender<Result<Answer, CommandError>>),
    /// End.
    Stop,
}

/// What a command brought.
#[derive(Debug)]
pub struct Answer {
    /// For [`Command::Link`].
    pub link: Option<Link>,
    /// Every phone, in order, after the command.
    pub ports: Vec<PortStatus>,
}

/// Owns the TAPs and the switch.
pub struct Pump {
    /// By phone. `None` if the TAP is gone, for example because somebody deleted its namespace.
    taps: Vec<Option<SyncDevice>>,
    switch: Switch,
    requests: Receiver<Request>,
    /// Readable when there is a request.
    wake: Arc<EventFd>,
    /// Room for one frame.
    buffer: Box<[u8]>,
}

impl Pump {
    /// Takes the TAPs, which must not block, in the order of the switch's phones.
    pub fn new(
        taps: Vec<SyncDevice>,
        switch: Switch,
        requests: Receiver<Request>,
        wake: Arc<EventFd>,
    ) -> Self {
        Self {
            taps: taps.into_iter().map(Some).collect(),
            switch,
            requests,
            wake,
            buffer: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
        }
    }

    /// Carries frames until it is told to stop.
    pub fn run(mut self) {
        if let Err(error) = prctl::set_timerslack(TIMER_SLACK_NS) {
            tracing::debug!(%error, "Timers stay at the default slack");
        }
        prefer_this_thread();

        loop {
            let readable = self.wait();

            for phone in readable.phones {
                self.read(phone);
            }
            if readable.request && !self.answer() {
                return;
            }

            self.switch.handle_timeout(Instant::now());
            while let Some(delivery) = self.switch.poll() {
                self.write(delivery.to, &delivery.frame);
            }
        }
    }

    fn wait(&self) -> Readable {
        let present = |phone: &usize| self.taps[*phone].is_some();
        let phones = (0..self.taps.len()).filter(present);
        let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        let taps = self.taps.iter().flatten();
        fds.extend(taps.map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN)));

        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        let timeout = self.switch.poll_timeout().map(left).map(TimeSpec::from);
        if ppoll(&mut fds, timeout, None).is_err() {
            return Readable::default(); // a signal: look again
        }

        // An error counts as readable: reading tells what it is.
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let ready_phones = phones.zip(&fds[1..]).filter(|(_, fd)| ready(fd));
        Readable {
            request: ready(&fds[0]),
            phones: ready_phones.map(|(phone, _)| phone).collect(),
        }
    }

    fn read(&mut self, phone: usize) {
        let now = Instant::now();
        for _ in 0..FRAMES_PER_TURN {
            let Some(tap) = &self.taps[phone] else { return };
            match tap.recv(&mut self.buffer) {
                Ok(frame_bytes) => {
                    let frame = Arc::from(&self.buffer[..frame_bytes]);
                    self.switch.handle_frame(phone, frame, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(phone, %error, "TAP is gone");
                    self.taps[phone] = None;
                }
            }
        }
    }

    fn write(&self, phone: usize, frame: &[u8]) {
        let Some(tap) = &self.taps[phone] else { return };
        if let Err(error) = tap.send(frame) {
            // As on the air: an interface that is down, or out of buffers, hears nothing.
            tracing::debug!(phone, %error, "Frame refused");
        }
    }

    /// Answers what was asked, and returns whether to go on.
    fn answer(&mut self) -> bool {
        if let Err(error) = self.wake.read() {
            tracing::debug!(%error, "Woken without a reason");
        }

        while let Ok(request) = self.requests.try_recv() {
            let (command, reply) = match request {
                Request::Apply(command, reply) => (command, reply),
                Request::Stop => return false,
            };
            let answer = self.switch.apply(&command).map(|link| Answer {
                link,
                ports: self.switch.status(),
            });
            // Whoever asked may have given up waiting.
            let _ = reply.send(answer);
        }
        true
    }
}

/// What woke the pump.
#[derive(Default)]
struct Readable {
    request: bool,
    phones: Vec<usize>,
}

/// Lets this thread run before all ordinary ones, and so the threads it starts later.
///
/// Phones that compute on every core must not make the network slow as well. Tried on two cores with
/// two busy loops, round trips of nominally 4 ms: p95 4.3 ms so, 8.0 ms at the best nice value and
/// 9.9 ms without. It may only be used by a thread that mostly sleeps.
pub fn prefer_this_thread() {
    let lowest = ThreadPriorityValue::try_from(1).expect("1 is a priority");
    let real_time = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    let lowest = ThreadPriority::Crossplatform(lowest);

    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), lowest, real_time) {
        tracing::warn!(?error, "The thread has to wait for a core like any other");
    }
}
