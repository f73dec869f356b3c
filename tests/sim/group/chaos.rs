//! Groups in trouble, by seed: what goes wrong and when is drawn; what must hold is not.
//!
//! ```text
//!  form (people tap) ──► trouble for 20 s ──► all is mended ──► settled within 5 s ──► check
//! ```

use std::time::Duration;

use proto::PeerId;
use proto::group::{Command, InEvent, LOST_AFTER, Name, Purpose, Rank, Sighting, When};
use rand::Rng;

use super::network::{Conditions, MS, Micros, SECOND};
use super::{Due, GroupWorld, Index, liar};

/// How long trouble lasts.
const TROUBLE: Micros = 20 * SECOND;

/// A leader again this soon after phones can talk to each other again: the promise.
pub const SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// How long a lost member may go undialled, and a lost leader unnoticed.
const REDIAL: Duration = Duration::from_secs(9);

/// Something that goes wrong, or that people do.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // `i`, `a`, `b`: which phone
pub enum Fault {
    /// A phone is off.
    Crash { i: Index, silently: bool },
    /// A phone dies between two things that it wanted done.
    CrashWithin { i: Index, outs: u32 },
    /// A phone is on again, with its disk some saves old.
    Restart { i: Index, age: usize },
    /// A phone sleeps.
    Suspend(Index),
    /// It goes on.
    Resume(Index),
    /// Phones on different sides cannot talk.
    Partition(Vec<u8>),
    /// All can.
    Heal,
    /// Two phones cannot talk, all others can.
    Cut { a: Index, b: Index, cut: bool },
    /// An answer begins or ends.
    Writing(Index, bool),
    /// A phone's battery or charger changed.
    Rank(Index, Rank),
    /// A person wants something.
    Command(Index, Command),
    /// A stranger, or a lying member, says things to everyone.
    Lies { liar: PeerId, count: u32 },
}

/// What kinds of trouble a seed brings.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// It begins before there is a group: people tap in the middle of it.
    pub early: bool,
    /// Disks are put back to an old state.
    pub stale_disks: bool,
    /// People leave, remove, block, and ask again.
    pub comings_and_goings: bool,
    /// Strangers shout at the door.
    pub strangers: bool,
    /// One member runs another program.
    pub lying_member: bool,
    /// How good the links are while it lasts.
    pub conditions: Conditions,
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// How many phones there were.
    pub phones: usize,
    /// From the moment all could talk again to the last in which they did not agree.
    pub settled_after: Duration,
    /// How many things happened.
    pub events: u64,
    /// Simulated time.
    pub simulated: Duration,
}

impl Trouble {
    /// Draws what `seed` brings.
    fn draw(rng: &mut impl Rng) -> Self {
        let conditions = [
            Conditions::WIFI,
            Conditions::WIFI,
            Conditions::BUSY_WIFI,
            Conditions::TERRIBLE,
        ];

        Self {
            early: rng.random_bool(0.15),
            stale_disks: rng.random_bool(0.25),
            comings_and_goings: rng.random_bool(0.4),
            strangers: rng.random_bool(0.4),
            lying_member: rng.random_bool(0.2),
            conditions: conditions[rng.random_range(0..conditions.len())],
        }
    }

    /// Whether everybody must be together again at the end.
    fn keeps_everybody(&self) -> bool {
        !self.early && !self.stale_disks && !self.comings_and_goings && !self.lying_member
    }
}

/// Runs the world that `seed` names.
///
/// # Panics
///
/// If something happens that must not, or the phones do not find together again.
pub fn run(seed: u64) -> Outcome {
    let n = 2 + usize::try_from(seed % 7).expect("small");
    let mut world = GroupWorld::new(seed, n, Conditions::WIFI);
    let trouble = Trouble::draw(&mut world.rng);
    world.note(|| format!("{n} phones, {trouble:?}"));

    world.forgetful = trouble.stale_disks;

    if trouble.early {
        world.plan_taps();
    } else {
        world.form_somehow();
    }
    world.set_conditions(trouble.conditions);
    world.plan_trouble(&trouble);
    world.run_for(Duration::from_micros(TROUBLE));
    world.mend();

    let settled_after = world.check_settles(&trouble);
    Outcome {
        phones: n,
        settled_after,
        events: world.events(),
        simulated: world.now(),
    }
}

impl GroupWorld {
    /// Everyone gets in, by one way or another.
    fn form_somehow(&mut self) {
        self.sight_all();
        for i in 1..self.len() {
            let host = self.rng.random_range(0..i);
            match self.rng.random_range(0..3) {
                0 => self.ask(i, host, Purpose::Join),
                1 => self.ask(host, i, Purpose::Invite),
                _ => self.invite(host, i, Duration::from_secs(600)),
            }
            let in_group = |world: &Self| world.group(i).is_some() && world.is_settled();
            let took = self.run_until_done(Duration::from_secs(30), in_group);
            assert!(
                took.is_some(),
                "seed={}: phone {i} did not get in",
                self.seed
            );
        }
    }

    /// Everyone taps somebody, some time.
    fn plan_taps(&mut self) {
        for i in 0..self.len() {
            let other = (i + self.rng.random_range(1..self.len())) % self.len();
            let peer = self.id(other);
            let purpose = if self.rng.random() {
                Purpose::Join
            } else {
                Purpose::Invite
            };
            let at = self.rng.random_range(0..TROUBLE / 2);
            let tap = Fault::Command(i, Command::Ask { peer, purpose });
            self.plan(at, Due::Fault(tap));
        }
    }

    fn ask(&mut self, i: Index, other: Index, purpose: Purpose) {
        let peer = self.id(other);
        self.command(i, Command::Ask { peer, purpose });
    }

    fn plan_trouble(&mut self, trouble: &Trouble) {
        let n = self.len();
        if trouble.lying_member {
            let liar = self.rng.random_range(0..n);
            self.phones[liar].liar = true;
            self.phones[liar].wake = None;
            self.phones[liar].machine = None;
            let liar = self.id(liar);
            self.plan_lies(liar);
        }
        if trouble.strangers {
            let stranger = PeerId([255; 32]);
            self.plan_lies(stranger);
        }
        for _ in 0..self.rng.random_range(2..7) {
            let at = self.rng.random_range(0..TROUBLE);
            self.plan_one(at, trouble);
        }
    }

    fn plan_lies(&mut self, liar: PeerId) {
        for _ in 0..self.rng.random_range(1..12) {
            let at = self.rng.random_range(0..TROUBLE);
            let count = self.rng.random_range(1..60);
            self.plan(at, Due::Fault(Fault::Lies { liar, count }));
        }
    }

    /// Plans one trouble and its end.
    fn plan_one(&mut self, at: Micros, trouble: &Trouble) {
        let n = self.len();
        let i = self.rng.random_range(0..n);
        let lasts = self.rng.random_range(100 * MS..12 * SECOND);
        let kinds = if trouble.comings_and_goings { 12 } else { 8 };
        let (begin, end) = match self.rng.random_range(0..kinds) {
            0 | 1 => {
                let silently = self.rng.random();
                let age = if trouble.stale_disks {
                    self.rng.random_range(0..6)
                } else {
                    0
                };
                (
                    Fault::Crash { i, silently },
                    Some(Fault::Restart { i, age }),
                )
            }
            2 => {
                let outs = self.rng.random_range(0..8);
                (
                    Fault::CrashWithin { i, outs },
                    Some(Fault::Restart { i, age: 0 }),
                )
            }
            3 => (Fault::Suspend(i), Some(Fault::Resume(i))),
            4 => {
                let sides = (0..n).map(|_| self.rng.random_range(0..3)).collect();
                (Fault::Partition(sides), Some(Fault::Heal))
            }
            5 if n > 2 => {
                let (a, b) = (i, (i + self.rng.random_range(1..n)) % n);
                let cut = |cut| Fault::Cut { a, b, cut };
                (cut(true), Some(cut(false)))
            }
            5 | 6 => (Fault::Writing(i, true), Some(Fault::Writing(i, false))),
            7 => {
                let memory_mib = self.rng.random_range(0..9000);
                (
                    Fault::Rank(
                        i,
                        Rank {
                            memory_mib,
                            ..Rank::default()
                        },
                    ),
                    None,
                )
            }
            _ => (Fault::Command(i, self.draw_command(i)), None),
        };
        self.plan(at, Due::Fault(begin));
        if let Some(end) = end {
            self.plan(at + lasts, Due::Fault(end));
        }
    }

    fn draw_command(&mut self, i: Index) -> Command {
        let other = (i + self.rng.random_range(1..self.len())) % self.len();
        let peer = self.id(other);
        match self.rng.random_range(0..9) {
            0 => Command::Leave(When::Now),
            1 => Command::Leave(When::AfterAnswer),
            2 => Command::Remove(peer),
            3 => Command::HandOver(peer),
            4 => Command::Block(peer),
            5 => Command::Rename(Name::tidy("Renamed")),
            6 | 7 => Command::Ask {
                peer,
                purpose: Purpose::Join,
            },
            _ => Command::Ask {
                peer,
                purpose: Purpose::Invite,
            },
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        self.note(|| format!("{fault:?}"));
        match fault {
            Fault::Crash { i, .. } | Fault::CrashWithin { i, .. } if self.phones[i].liar => {}
            Fault::Restart { i, .. } if self.phones[i].liar => {}
            Fault::Crash { i, silently } => self.crash(i, silently),
            Fault::CrashWithin { i, outs } => self.crash_within(i, outs),
            Fault::Restart { i, age } => self.restart(i, age),
            Fault::Suspend(i) => self.suspend(i),
            Fault::Resume(i) => self.resume(i),
            Fault::Partition(sides) => self.partition(&sides),
            Fault::Heal => self.heal(),
            Fault::Cut { a, b, cut } => self.set_cut(a, b, cut),
            Fault::Writing(i, writing) => self.tell(i, InEvent::Writing(writing)),
            Fault::Rank(i, rank) => self.set_rank(i, rank),
            Fault::Command(i, command) => self.command_if_awake(i, command),
            Fault::Lies { liar, count } => self.tell_lies(liar, count),
        }
    }

    fn command_if_awake(&mut self, i: Index, command: Command) {
        if self.is_awake(i) {
            self.command(i, command);
        }
    }

    fn tell_lies(&mut self, me: PeerId, count: u32) {
        let mut peers: Vec<_> = self.phones.iter().map(|phone| phone.id).collect();
        peers.extend([me, PeerId([254; 32])]);
        peers.sort();
        peers.dedup();
        for _ in 0..count {
            let to = self.rng.random_range(0..self.len());
            let knows = (0..self.len()).find(|&i| self.roster(i).is_some());
            let roster = knows.and_then(|i| self.roster(i)).cloned();
            let term = knows.and_then(|i| self.phones[i].machine.as_ref()?.accepted());
            let known = liar::Knowledge {
                me,
                peers: &peers,
                roster: roster.as_ref(),
                term,
            };
            let bytes = liar::lie(&known, &mut self.rng);
            self.inject(me, to, bytes);

            let sighting = Sighting {
                peer: PeerId(std::array::from_fn(|_| self.rng.random())),
                name: Name::tidy("made up"),
                version: self.rng.random_range(0..3),
                group: None,
            };
            self.tell(to, InEvent::Sighted(sighting));
        }
    }

    /// All trouble ends; a lying member is switched off for good.
    fn mend(&mut self) {
        self.note(|| "all is mended".to_string());
        self.queue.clear();
        self.pending.clear();
        self.free.clear();
        self.set_conditions(Conditions::WIFI);
        for link in &mut self.links {
            // What was on its way is gone, so connections are as good as broken.
            link.generation += 1;
        }
        self.heal();
        for i in 0..self.len() {
            self.phones[i].dies_in = None;
            self.resume(i);
            if !self.phones[i].liar {
                self.restart(i, 0);
            }
            self.tell(i, InEvent::Writing(false));
            for j in self.others(i).filter(|&j| i < j) {
                self.hang_up(i, j);
            }
        }
    }

    /// Runs on until phones that can talk agree, and stay agreed.
    fn check_settles(&mut self, trouble: &Trouble) -> Duration {
        let seed = self.seed;
        let connected = self.run_until_done(REDIAL, Self::all_connected);
        if trouble.keeps_everybody() {
            assert!(
                connected.is_some(),
                "seed={seed}: members did not find each other"
            );
        }
        // Removed, forgotten or lied to: to find out that one is none takes five seconds more.
        let patience = if trouble.keeps_everybody() {
            SETTLES_WITHIN
        } else {
            3 * SETTLES_WITHIN
        };
        let from = self.now;
        let mut last_unsettled = self.now;
        while let Some(next) = self.next_instant()
            && next <= from + u64::try_from((patience + LOST_AFTER).as_micros()).expect("short")
        {
            self.run_next(next);
            if !self.is_settled() {
                last_unsettled = self.now;
            }
        }

        if let Some(why) = self.unsettled() {
            panic!("seed={seed}: not settled {patience:?} after all was mended: {why}");
        }
        let settled_after = Duration::from_micros(last_unsettled - from);
        assert!(
            settled_after <= patience,
            "seed={seed}: settled after {settled_after:?}"
        );
        if trouble.keeps_everybody() {
            let group = self.group(0);
            let together =
                (0..self.len()).all(|i| self.group(i).is_some() && self.group(i) == group);
            assert!(together, "seed={seed}: a member was lost for good");
        }
        settled_after
    }
}
