//! Who leads: terms, a lease kept alive by heartbeats, and a vote without a majority.
//!
//! ```text
//!               lease over, own turn by rank         all who answer agree
//!  Following ────────────────────────────► Standing ─────────────────────► Leading
//!     ▲ ▲                                      │                              │
//!     │ └──────── somebody would not ──────────┘                              │
//!     └──────────── a higher number, from a member · stepped down ────────────┘
//! ```
//!
//! **Why no majority.** Two phones must go on when a third dies, and one when the second dies. So a
//! candidate asks everyone it can reach and leads when *nobody who answers* objects. A cut network
//! then has a leader on each side, on purpose: people on each side go on chatting.
//!
//! **What is safe all the same.** A phone obeys one leader: that of the highest term it accepted. A
//! term names its leader, a phone accepts only a *higher number* than before, and it saves what it
//! accepted before it says so. Hence nobody ever obeys two leaders of one number, nor goes back to
//! an old one, whatever is lost, doubled, or late; a phone that leads alone leads only itself.
//!
//! **The vote is for calm, not for safety.** A phone that hears its leader declines, so one that
//! slept or cannot reach the leader does not turn the group over. Candidates stand in order of
//! rank, one after the other.
//!
//! **When two sides meet**, each leader hears of the other. The one that more phones follow (then
//! rank, then peer id) claims a number above both, the other obeys. A leader does so once per
//! [`CLAIM_PAUSE`]; outside of it the higher number wins. So it ends, even if both miscount.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::message::Decline;
use super::roster::Term;
use crate::PeerId;

/// How often the leader says that it lives.
///
/// Twice a second: a Wi-Fi radio in power save wakes ten times a second, so this costs no sleep.
pub const HEARTBEAT: Duration = Duration::from_millis(500);

/// Silence after which a phone is suspect: three heartbeats, one more than a lost packet and its
/// retransmission (TCP's least is 200 ms, doubled each time) can cost.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(1600);

/// Silence after which a phone is lost: the lease.
///
/// Longer than a Wi-Fi roam or a scan of all channels (1 to 3 s), short enough that a person who
/// waits for a word does not give up. A guess.
pub const LOST_AFTER: Duration = Duration::from_millis(3500);

/// The same, once its connection has been closed: an app that was killed does that at once, and
/// a new connection takes three round trips.
pub const LOST_AFTER_DISCONNECT: Duration = Duration::from_millis(1500);

/// How much later the next in rank stands: a vote's round trip on a busy Wi-Fi (2 × 25 ms), with
/// room for one retransmission.
pub const STAND_STEP: Duration = Duration::from_millis(300);

/// How long a candidate waits for those that do not answer.
///
/// Two retransmissions. With twelve phones, the last in rank leads 11 × 300 + 600 = 3.9 s after the
/// loss is seen, if all the others died with the leader.
pub const VOTE_WAIT: Duration = Duration::from_millis(600);

/// How long a promise to follow one candidate keeps a phone from promising another.
pub const PROMISE: Duration = Duration::from_millis(1200);

/// How long a leader that was restarted listens before it stands again: time for the others to
/// connect and tell of a higher term.
pub const RESTART_WAIT: Duration = Duration::from_millis(1000);

/// A leader claims a number above another leader's at most this often.
pub const CLAIM_PAUSE: Duration = Duration::from_secs(10);

/// A leader claims a number above one that a lost member obeyed at most this often. Such a member
/// does not lead, so nobody answers in kind; the pause is for one that only says so.
pub const RESCUE_PAUSE: Duration = Duration::from_secs(1);

/// How far a number may jump. A group that elects a leader every second for a century is within
/// it; a member that lies needs 2³² messages (three years at the pace of a member) to use all up.
pub const NUMBER_JUMP_MAX: u64 = 1 << 32;

/// No number is above this, so that adding one to it never wraps.
pub const NUMBER_MAX: u64 = 1 << 62;

/// What a phone is worth as a leader: compared from the first field to the last, more is better.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Rank {
    /// It holds the ends and the model, so it can lead without fetching anything.
    pub holds_model: bool,
    /// It is plugged in.
    pub plugged_in: bool,
    /// Memory that it may use.
    pub memory_mib: u32,
    /// Tokens per hour that it would decode alone.
    pub speed: u32,
}

/// What decides between two leaders that meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merit {
    pub(super) followers: u8,
    pub(super) rank: Rank,
    pub(super) peer: PeerId,
}

/// What to do about another leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// Lead a number above both.
    Claim,
    /// Obey it.
    Obey,
    /// Go on, and let it hear us.
    Hold,
}

/// How a term from the wire compares with the one accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// Of a lower number, or of the same number and another leader.
    Old,
    /// The one accepted.
    Same,
    /// Of a higher number.
    Higher,
    /// So high that only a liar says it.
    Absurd,
}

/// One phone's part in its group's elections.
#[derive(Debug)]
pub(super) struct Election {
    me: PeerId,
    /// Obeyed or led. Its number only grows, and it is saved before anything is done in it.
    accepted: Term,
    /// The highest number heard of: the next to stand with is above it.
    highest: u64,
    role: Role,
    claimed_at: Option<Instant>,
    rescued_at: Option<Instant>,
}

#[derive(Debug)]
enum Role {
    Following {
        /// When the leader was heard last, or when we began to listen.
        heard: Instant,
        /// The leader was heard indeed.
        certain: bool,
        /// When its connection was closed, if it is.
        cut: Option<Instant>,
        /// The lease is over: when it is our turn to stand.
        stand_at: Option<Instant>,
        /// Whom we promised to follow.
        promise: Option<Promise>,
    },
    Standing {
        term: Term,
        until: Instant,
        /// Who was asked and has not agreed yet.
        awaited: BTreeSet<PeerId>,
        /// Somebody was there to be asked.
        asked_any: bool,
    },
    Leading,
}

#[derive(Debug, Clone, Copy)]
struct Promise {
    rank: Rank,
    to: PeerId,
    until: Instant,
}

impl Election {
    /// Obeys `accepted`, whose leader is yet to be heard.
    pub(super) fn following(me: PeerId, accepted: Term, now: Instant) -> Self {
        Self {
            me,
            accepted,
            highest: accepted.number,
            role: listening(false, now),
            claimed_at: None,
            rescued_at: None,
        }
    }

    /// Leads `term` as the one who founded the group.
    pub(super) fn leading(me: PeerId, term: Term) -> Self {
        Self {
            me,
            accepted: term,
            highest: term.number,
            role: Role::Leading,
            claimed_at: None,
            rescued_at: None,
        }
    }

    pub(super) fn me(&self) -> PeerId {
        self.me
    }

    pub(super) fn accepted(&self) -> Term {
        self.accepted
    }

    /// Whether a number from the wire, of a term or a roster, is one that an honest phone says.
    pub(super) fn is_plausible(number: u64, held: u64) -> bool {
        number <= held.saturating_add(NUMBER_JUMP_MAX).min(NUMBER_MAX)
    }

    pub(super) fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leading)
    }

    /// The term being stood for.
    pub(super) fn standing(&self) -> Option<Term> {
        match &self.role {
            Role::Standing { term, .. } => Some(*term),
            Role::Following { .. } | Role::Leading => None,
        }
    }

    /// Whom this phone obeys: itself, a leader whose lease lasts, or nobody.
    pub(super) fn leader(&self) -> Option<PeerId> {
        match &self.role {
            Role::Leading => Some(self.me),
            Role::Following { stand_at: None, .. } if self.accepted.leader != self.me => {
                Some(self.accepted.leader)
            }
            Role::Following { .. } | Role::Standing { .. } => None,
        }
    }

    /// Compares a term from the wire, and remembers its number if it is to be believed.
    pub(super) fn compare(&mut self, term: Term) -> Compared {
        if !Self::is_plausible(term.number, self.accepted.number) {
            return Compared::Absurd;
        }
        // Half a jump: what we stand with above it must not look absurd to those a little behind.
        let believed = self.accepted.number.saturating_add(NUMBER_JUMP_MAX / 2);
        self.highest = self.highest.max(term.number.min(believed));

        if term == self.accepted {
            Compared::Same
        } else if term.number > self.accepted.number {
            Compared::Higher
        } else {
            Compared::Old
        }
    }

    /// Takes note of a term that a roster was written in. Returns whether what is stood for next
    /// will be above it.
    pub(super) fn believe(&mut self, term: Term) -> bool {
        self.compare(term) != Compared::Absurd && term.number <= self.highest
    }

    /// The leader obeyed was heard.
    pub(super) fn heard_leader(&mut self, now: Instant) {
        self.role = listening(true, now);
    }

    /// Obeys `term`.
    pub(super) fn obey(&mut self, term: Term, now: Instant) {
        assert!(term.number > self.accepted.number, "numbers only grow");
        self.accepted = term;
        self.role = listening(true, now);
    }

    /// Leads `term`.
    pub(super) fn lead(&mut self, term: Term) {
        assert!(term.number > self.accepted.number, "numbers only grow");
        self.accepted = term;
        self.highest = self.highest.max(term.number);
        self.role = Role::Leading;
    }

    /// Goes back to following, with the lease over at once and our turn at `stand_at`.
    pub(super) fn step_down(&mut self, now: Instant, stand_at: Instant) {
        self.role = Role::Following {
            heard: now,
            certain: false,
            cut: None,
            stand_at: Some(stand_at),
            promise: None,
        };
    }

    /// The connection to `peer` was closed or opened.
    pub(super) fn connected(&mut self, peer: PeerId, connected: bool, now: Instant) {
        if let Role::Following { cut, .. } = &mut self.role
            && peer == self.accepted.leader
        {
            *cut = if connected { None } else { cut.or(Some(now)) };
        }
        if let Role::Standing { awaited, .. } = &mut self.role
            && !connected
        {
            awaited.remove(&peer);
        }
    }

    /// This phone slept: what it did not hear meanwhile means nothing.
    pub(super) fn wake(&mut self, now: Instant) {
        if !self.is_leading() {
            self.role = listening(false, now);
        }
    }

    /// Whether the leader obeyed was heard lately.
    pub(super) fn leader_lives(&self, now: Instant) -> bool {
        match &self.role {
            Role::Leading => true,
            Role::Following {
                heard,
                certain: true,
                cut,
                stand_at,
                ..
            } => {
                let recent = now < *heard + SUSPECT_AFTER;
                recent && cut.is_none() && stand_at.is_none() && self.accepted.leader != self.me
            }
            Role::Following { .. } | Role::Standing { .. } => false,
        }
    }

    /// When the lease runs out.
    pub(super) fn lease_end(&self) -> Option<Instant> {
        let Role::Following {
            heard,
            cut,
            stand_at: None,
            ..
        } = &self.role
        else {
            return None;
        };
        let wait = if self.accepted.leader == self.me {
            RESTART_WAIT
        } else {
            LOST_AFTER
        };
        let silence_end = *heard + wait;

        Some(cut.map_or(silence_end, |cut| {
            silence_end.min(cut + LOST_AFTER_DISCONNECT)
        }))
    }

    /// The lease is over: our turn comes after `place` better ones have had theirs.
    pub(super) fn seek(&mut self, place: u32, rng: &mut ChaCha12Rng, now: Instant) {
        let at = now + STAND_STEP * place + jitter(rng);
        if let Role::Following { stand_at, .. } = &mut self.role {
            *stand_at = Some(at);
        }
    }

    /// When to stand, or when to stop waiting for votes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Following { stand_at, .. } => stand_at.or_else(|| self.lease_end()),
            Role::Standing { until, .. } => Some(*until),
            Role::Leading => None,
        }
    }

    /// Stands for a number above all heard of, before `electorate`. Returns the term.
    pub(super) fn stand(&mut self, electorate: BTreeSet<PeerId>, now: Instant) -> Term {
        let term = self.next_term();
        self.highest = term.number;
        self.role = Role::Standing {
            term,
            until: now + VOTE_WAIT,
            asked_any: !electorate.is_empty(),
            awaited: electorate,
        };
        term
    }

    /// The term above all heard of.
    pub(super) fn next_term(&self) -> Term {
        Term {
            number: self.highest + 1,
            leader: self.me,
        }
    }

    /// Judges a candidate of `rank` that would lead `term`.
    ///
    /// # Errors
    ///
    /// - why this phone would not follow
    pub(super) fn judge(
        &mut self,
        term: Term,
        rank: Rank,
        mine: Rank,
        now: Instant,
    ) -> Result<(), Decline> {
        let candidate = term.leader;
        if self.compare(term) != Compared::Higher {
            return Err(Decline::Stale);
        }
        if self.leader_lives(now) && candidate != self.accepted.leader {
            return Err(Decline::LeaderLives);
        }

        match &mut self.role {
            Role::Leading => Err(Decline::LeaderLives),
            Role::Standing { .. } if (mine, self.me) > (rank, candidate) => Err(Decline::Outranked),
            Role::Standing { .. } => {
                self.promise(candidate, rank, now);
                Ok(())
            }
            Role::Following {
                promise: Some(held),
                ..
            } if held.to != candidate
                && now < held.until
                && (held.rank, held.to) > (rank, candidate) =>
            {
                Err(Decline::Outranked)
            }
            Role::Following { .. } => {
                self.promise(candidate, rank, now);
                Ok(())
            }
        }
    }

    /// Follows `candidate` if it comes to lead, and gives it time to.
    fn promise(&mut self, to: PeerId, rank: Rank, now: Instant) {
        let until = now + PROMISE;
        self.role = Role::Following {
            heard: now,
            certain: false,
            cut: None,
            stand_at: Some(until),
            promise: Some(Promise { rank, to, until }),
        };
    }

    /// A phone would follow us in `term`. Returns whether all who were asked would.
    pub(super) fn granted(&mut self, from: PeerId, granted: Term) -> bool {
        match &mut self.role {
            Role::Standing {
                term,
                awaited,
                asked_any,
                ..
            } if *term == granted => {
                awaited.remove(&from);
                *asked_any && awaited.is_empty()
            }
            Role::Standing { .. } | Role::Following { .. } | Role::Leading => false,
        }
    }

    /// A phone would not follow us in `term`: try again later, or not at all if a leader is heard.
    pub(super) fn declined(
        &mut self,
        term: Term,
        why: Decline,
        rng: &mut ChaCha12Rng,
        now: Instant,
    ) {
        if self.standing() != Some(term) {
            return;
        }
        let pause = match why {
            Decline::Stale => Duration::ZERO,
            Decline::LeaderLives => SUSPECT_AFTER,
            Decline::Outranked => PROMISE,
        };
        self.step_down(now, now + pause + jitter(rng));
    }

    /// Says what to do about another leader, of `term`.
    pub(super) fn meet(&mut self, term: Term, mine: Merit, theirs: Merit, now: Instant) -> Meeting {
        let better = mine > theirs;
        let tie = term.number == self.accepted.number;
        if better && (tie || self.may_claim(now)) {
            self.claimed_at = Some(now);
            Meeting::Claim
        } else if term.number > self.accepted.number {
            Meeting::Obey
        } else {
            Meeting::Hold
        }
    }

    /// Whether to lead above another leader's number without having met it. Counts as a claim.
    pub(super) fn claim(&mut self, now: Instant) -> bool {
        let may = self.may_claim(now);
        if may {
            self.claimed_at = Some(now);
        }
        may
    }

    /// Whether to lead a higher number for a member that has lost its way.
    pub(super) fn rescue(&mut self, now: Instant) -> bool {
        let may = self.rescued_at.is_none_or(|at| now >= at + RESCUE_PAUSE);
        if may {
            self.rescued_at = Some(now);
        }
        may
    }

    fn may_claim(&self, now: Instant) -> bool {
        self.claimed_at.is_none_or(|at| now >= at + CLAIM_PAUSE)
    }
}

fn listening(certain: bool, now: Instant) -> Role {
    Role::Following {
        heard: now,
        certain,
        cut: None,
        stand_at: None,
        promise: None,
    }
}

/// Keeps two phones of one rank from standing in the same instant for ever.
fn jitter(rng: &mut ChaCha12Rng) -> Duration {
    Duration::from_millis(rng.random_range(0..60))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const ANNA: PeerId = PeerId([0xaa; 32]);
    const BELA: PeerId = PeerId([0xbb; 32]);
    const CLEO: PeerId = PeerId([0xcc; 32]);

    #[test]
    fn a_phone_that_hears_its_leader_follows_nobody_else() {
        let now = Instant::now();
        let mut anna = Election::following(ANNA, term(5, CLEO), now);
        anna.heard_leader(now);

        let verdict = anna.judge(term(6, BELA), Rank::default(), Rank::default(), now);

        assert_eq!(verdict, Err(Decline::LeaderLives));
    }

    #[test]
    fn an_old_number_is_refused_even_without_a_leader() {
        let now = Instant::now();
        let mut anna = Election::following(ANNA, term(5, CLEO), now);
        anna.step_down(now, now);

        let verdict = anna.judge(term(5, BELA), Rank::default(), Rank::default(), now);

        assert_eq!(verdict, Err(Decline::Stale));
    }

    #[test]
    fn of_two_candidates_the_better_goes_on() {
        let now = Instant::now();
        let [mut anna, mut bela] = [ANNA, BELA].map(|me| {
            let mut election = Election::following(me, term(5, CLEO), now);
            election.step_down(now, now);
            election
        });
        let mine = anna.stand([BELA].into(), now);
        let theirs = bela.stand([ANNA].into(), now);

        let rank = Rank::default();
        assert_eq!(bela.judge(mine, rank, rank, now), Err(Decline::Outranked));
        assert_eq!(anna.judge(theirs, rank, rank, now), Ok(()));
        assert!(bela.granted(ANNA, theirs));
    }

    #[test]
    fn two_leaders_that_both_think_themselves_better_settle_on_one() {
        let now = Instant::now();
        let (mut anna, mut bela) = (
            Election::leading(ANNA, term(5, ANNA)),
            Election::leading(BELA, term(6, BELA)),
        );
        let (more, fewer) = (merit(3, ANNA), merit(2, BELA));

        assert_eq!(anna.meet(bela.accepted(), more, fewer, now), Meeting::Claim);
        anna.compare(bela.accepted());
        anna.lead(anna.next_term());
        let (more, fewer) = (merit(3, BELA), merit(2, ANNA));
        bela.compare(anna.accepted());
        assert_eq!(bela.meet(anna.accepted(), more, fewer, now), Meeting::Claim);
        bela.lead(bela.next_term());
        let (more, fewer) = (merit(3, ANNA), merit(2, BELA));
        anna.compare(bela.accepted());

        assert_eq!(anna.meet(bela.accepted(), more, fewer, now), Meeting::Obey);
    }

    #[test]
    fn a_lease_is_over_sooner_when_the_connection_is_closed() {
        let now = Instant::now();
        let mut anna = Election::following(ANNA, term(5, CLEO), now);

        anna.connected(CLEO, false, now);

        assert_eq!(anna.lease_end(), Some(now + LOST_AFTER_DISCONNECT));
    }

    #[test]
    fn candidates_of_one_rank_do_not_stand_in_the_same_instant() {
        let now = Instant::now();
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut anna = Election::following(ANNA, term(5, CLEO), now);

        anna.seek(2, &mut rng, now);

        assert!(anna.deadline().expect("it stands") >= now + STAND_STEP * 2);
    }

    fn term(number: u64, leader: PeerId) -> Term {
        Term { number, leader }
    }

    fn merit(followers: u8, peer: PeerId) -> Merit {
        Merit {
            followers,
            rank: Rank::default(),
            peer,
        }
    }
}
