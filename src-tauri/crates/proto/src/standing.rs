//! How every member is, and what the group runs: shared, so that every screen shows the same.
//!
//! ```text
//!   this phone: device, models, preparation, work ──► Standings ──► Board, for its own screen
//!                                                      │    ▲
//!   member ── its own standing, when it has changed ───┘    └── everybody's, from the leader
//! ```
//!
//! A member tells the leader how it is, and the leader tells all: so a member needs no connection but that to the
//! leader, and a change reaches everybody within two [`TELL_INTERVAL`]s. What the group runs stands in the
//! [`Standing`] of the phone that runs it, which as a rule leads. Tokens that go round are [`Beat`]s: they go the same
//! way, and are not kept.
//!
//! What a member says of itself is believed, within bounds: it is for the screen, and for the leader's plans as far as
//! it says that it would rather rest. Never a word of a conversation, nor a token, is in any of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::device::{Policy, Snapshot};
use crate::group::{Bounded, MEMBERS_MAX, Name};
use crate::placement::Tiredness;
use crate::plan::STAGES_MAX;
use crate::relay::ClientId;
use crate::{Epoch, ModelId, PeerId};

/// How often a phone tells others how it is, if that has changed: some hundred bytes a second at the most, beside
/// heartbeats that come twice a second anyway.
pub const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// How often a phone's own screen is told: more often than it hears from others, as a bar that grows in steps of a
/// quarter of a second still seems to move.
pub const SHOW_INTERVAL: Duration = Duration::from_millis(250);

/// How often tokens that went round are told. A picture that moves five times a second seems alive, and costs an
/// eleventh of the messages that a token's hops on three phones do at ten tokens a second.
pub const BEAT_INTERVAL: Duration = Duration::from_millis(200);

/// Models that a member may say it has: a guess at more than a phone has room for.
pub const MODELS_MAX: usize = 16;

/// Questions that are told: more than a screen has room for. All that wait are counted.
pub const QUESTIONS_MAX: usize = 16;

/// Layers a second, at most: a thousand times a fast desktop's.
const LAYERS_PER_S_MAX: f32 = 1e6;

/// Seconds of anything that a member forecasts or has measured, at most: an hour.
const SECONDS_MAX: f32 = 3600.0;

/// Weight of a new measurement among those of layers a second, as profiles weigh theirs.
const GAIN: f32 = 1.0 / 8.0;

/// How a member is, as it says itself.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Memory, battery, heat, and what its person allows; `None` until that is known.
    pub device: Option<Snapshot>,
    /// Whether its own person left it out of computing.
    pub is_excluded: bool,
    /// How far it is with its part of the plan; `None` if it has none.
    pub preparation: Option<Preparation>,
    /// Layers of the model in force that it computes a second, decoding; `None` if that is not measured.
    pub layers_per_s: Option<f32>,
    /// Its share of the work since it was started: layers times tokens.
    pub layers_computed: u64,
    /// Models that it has whole.
    pub models: Bounded<HeldModel, MODELS_MAX>,
    /// What it runs, with the group or alone.
    pub run: Option<Box<Run>>,
    /// Members that its person, when it leads, left out of computing.
    pub left_out: Bounded<PeerId, MEMBERS_MAX>,
}

/// A model that a member has whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldModel {
    /// Which.
    pub model: ModelId,
    /// What it is called.
    pub name: Name,
}

/// How far a phone is with its part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// What it does.
    pub step: PreparationStep,
    /// Bytes done, of this step.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes a second that come in; 0 if nothing does.
    pub rate_bytes_per_s: u64,
    /// Seconds until all are here, at this rate; `None` if that is not known.
    pub left_s: Option<u32>,
    /// Phone that most of them come from; `None` if they come from this phone's own storage.
    pub source: Option<PeerId>,
}

/// What a phone does with its part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PreparationStep {
    /// Nothing comes in yet.
    Waiting,
    /// Shards come in from another phone.
    Fetching,
    /// Shards that are on its storage are checked, or written from its own model.
    Checking,
    /// The engine loads them.
    Loading,
    /// It waits for others, or computes.
    Ready,
}

/// A model that is run, as the phone that runs it tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which model; `None` if nobody said.
    pub model: Option<ModelId>,
    /// What it is called.
    pub name: Name,
    /// Its layers.
    pub n_layers: u32,
    /// Phone on which a person started it.
    pub started_by: PeerId,
    /// How far it is.
    pub phase: RunPhase,
    /// The plan's number; 0 until there is one.
    pub epoch: Epoch,
    /// Who runs which layers, in ring order. Empty until there is a plan.
    pub stages: Bounded<RunStage, STAGES_MAX>,
    /// The phone that sees words: this one's, once there is a plan.
    pub head: Option<PeerId>,
    /// What is expected of it; `None` if nothing was measured for it.
    pub forecast: Option<Speed>,
    /// Of the last answers.
    pub measured: Option<Speed>,
    /// Questions under way, in order of arrival; the first of them if there are many.
    pub questions: Bounded<Question, QUESTIONS_MAX>,
    /// How many there are.
    pub n_questions: u32,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunPhase {
    /// Phones are waited for, and measured.
    Measuring,
    /// Phones get ready. [`Standing::preparation`] tells how far each is.
    Preparing {
        /// Whether there has been a plan before, in whose place this one comes.
        again: bool,
    },
    /// Questions are answered.
    Ready,
    /// It does not run, and will not until the phones are others.
    Failed(Trouble),
}

/// Why a model does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The phones that may take part have too little memory.
    TooSmall {
        /// The least that is missing.
        missing_bytes: u64,
    },
    /// The phones that have memory for it cannot reach each other.
    CutOff,
    /// A phone cannot do its part.
    CannotLoad {
        /// That phone.
        phone: PeerId,
    },
    /// A phone is gone; a plan without it is on its way.
    PhoneLost {
        /// That phone.
        phone: PeerId,
    },
    /// The phone that leads does not let this one lead, which has the model.
    NotHandedOver,
    /// Anything else: the phone that runs it says more ([`crate::phone::OutEvent::CannotPlan`]).
    Other,
}

/// One phone's part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunStage {
    /// The phone.
    pub phone: PeerId,
    /// Its layers, half-open; equal if it only holds the ends.
    pub layers: (u32, u32),
    /// What it adds to a token, as forecast; `None` if it was not measured.
    pub ms_per_token: Option<f32>,
}

/// How quickly answers come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Seconds to the first token.
    pub ttft_s: f32,
    /// Seconds for each token after it.
    pub tpot_s: f32,
}

/// A question under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Phone that asked.
    pub asker: PeerId,
    /// The asker's own count ([`crate::relay::Relay`]).
    pub number: u64,
    /// How far it is.
    pub stage: QuestionStage,
}

/// How far a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuestionStage {
    /// It waits.
    Waiting {
        /// Questions before it that wait, too: 0 if it is the next.
        ahead: u32,
    },
    /// Its prompt is read.
    Reading {
        /// Tokens read.
        done: u32,
        /// Tokens of the prompt.
        total: u32,
    },
    /// Its answer is written.
    Writing {
        /// Tokens of it.
        tokens: u32,
    },
}

/// Tokens that went round the ring since the last beat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Phone whose answer they belong to.
    pub asker: PeerId,
    /// How many.
    pub tokens: u32,
    /// What the last of them took.
    pub lap_ms: f32,
}

/// What members say about each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// How some members are: a member says it of itself, the leader of everybody.
    Members(Bounded<(PeerId, Standing), MEMBERS_MAX>),
    /// Tokens went round.
    Beat(Beat),
}

/// Everything that a screen shows of the members and of what they run.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Board {
    /// Every member, this phone too. In no group, this phone alone.
    pub members: BTreeMap<PeerId, MemberStanding>,
    /// What is run: by the phone that leads, or else by the one with the newest plan.
    pub run: Option<Run>,
    /// Screens of this phone, by the numbers of the questions that they asked.
    pub asked_here: BTreeMap<u64, ClientId>,
}

/// A member, as this phone knows it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct MemberStanding {
    /// How it is; nothing much, until it has said so.
    pub standing: Standing,
    /// Whether its own person or the leader's left it out of computing.
    pub is_excluded: bool,
    /// Round trip from this phone; `None` to itself, or where there is no connection.
    pub rtt: Option<Duration>,
}

/// What happened.
#[derive(Debug)]
pub enum InEvent {
    /// These are the members, who leads them, and which of them are connected. In no group there are none.
    Members {
        /// All of them, this phone among them.
        members: BTreeSet<PeerId>,
        /// Whom they obey; nobody, while a leader is sought.
        leader: Option<PeerId>,
        /// Those that can be told something.
        connected: BTreeSet<PeerId>,
    },
    /// A member said something.
    Heard {
        /// Who.
        from: PeerId,
        /// What.
        message: Message,
    },
    /// A message went to a phone and back.
    RoundTrip {
        /// To whom.
        phone: PeerId,
        /// How long it took.
        time: Duration,
    },
    /// This phone is otherwise than it was.
    Mine(Box<Standing>),
    /// This phone's engine has run a step.
    Computed {
        /// Layers that it ran through.
        n_layers: u32,
        /// Tokens in it.
        n_tokens: u32,
        /// What a step of answers being written took; `None` of a prompt's.
        decoded_in: Option<Duration>,
    },
    /// Tokens went round this phone's ring.
    Beat(Beat),
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum OutEvent {
    /// Say this to a member.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Message,
    },
    /// Show this, in place of what was shown before. At most every [`SHOW_INTERVAL`].
    Show(Box<Board>),
    /// Show that tokens went round. For each asker at most every [`BEAT_INTERVAL`].
    Beat(Beat),
}

/// How every member is.
#[derive(Debug)]
pub struct Standings {
    me: PeerId,
    members: BTreeSet<PeerId>,
    leader: Option<PeerId>,
    connected: BTreeSet<PeerId>,
    /// This phone's own, and those of members that have said how they are.
    standings: BTreeMap<PeerId, Standing>,
    rtts: BTreeMap<PeerId, Duration>,
    /// Phones that others have not been told of since they have changed.
    untold: BTreeSet<PeerId>,
    may_tell_at: Instant,
    /// Whether the screen shows everything as it is.
    is_shown: bool,
    may_show_at: Instant,
    /// What has gone round and was not told, by asker, and from which phone that was heard.
    beats: BTreeMap<PeerId, (Beat, PeerId)>,
    may_beat_at: Instant,
    out: VecDeque<OutEvent>,
}

impl Standings {
    /// Begins in no group.
    pub fn new(me: PeerId, now: Instant) -> Self {
        Self {
            me,
            members: BTreeSet::new(),
            leader: Some(me),
            connected: BTreeSet::new(),
            standings: BTreeMap::from([(me, Standing::default())]),
            rtts: BTreeMap::new(),
            untold: BTreeSet::new(),
            may_tell_at: now,
            is_shown: false,
            may_show_at: now,
            beats: BTreeMap::new(),
            may_beat_at: now,
            out: VecDeque::new(),
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, event: InEvent, now: Instant) {
        match event {
            InEvent::Members {
                members,
                leader,
                connected,
            } => self.set_members(members, leader, connected),
            InEvent::Heard { from, message } => self.hear(from, message),
            InEvent::RoundTrip { phone, time } => {
                self.rtts.insert(phone, time);
                self.is_shown = false;
            }
            InEvent::Mine(standing) => self.set(self.me, *standing),
            InEvent::Computed {
                n_layers,
                n_tokens,
                decoded_in,
            } => self.computed(n_layers, n_tokens, decoded_in),
            InEvent::Beat(beat) => self.note_beat(beat, self.me),
        }

        self.handle_timeout(now);
    }

    /// Tells and shows what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.tell_due().is_some_and(|due| due <= now) {
            self.tell(now);
        }
        if self.show_due().is_some_and(|due| due <= now) {
            self.is_shown = true;
            self.may_show_at = now + SHOW_INTERVAL;
            self.out.push_back(OutEvent::Show(Box::new(self.board())));
        }
        if self.beat_due().is_some_and(|due| due <= now) {
            self.tell_beats(now);
        }
    }

    /// Returns when [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.tell_due(), self.show_due(), self.beat_due()];

        due.into_iter().flatten().min()
    }

    /// Returns the next thing that is wanted.
    pub fn poll(&mut self) -> Option<OutEvent> {
        self.out.pop_front()
    }

    /// Returns whether [`Self::poll`] has something.
    pub fn wants_anything(&self) -> bool {
        !self.out.is_empty()
    }

    /// Returns how this phone is, as it told last.
    pub fn mine(&self) -> &Standing {
        &self.standings[&self.me]
    }

    /// Returns how a member is, if it has said so.
    pub fn of(&self, phone: PeerId) -> Option<&Standing> {
        self.standings.get(&phone)
    }

    /// Returns the members that their own people left out of computing.
    pub fn excluded_by_themselves(&self) -> BTreeSet<PeerId> {
        let excluded = self.standings.iter().filter(|(_, s)| s.is_excluded);

        excluded.map(|(&phone, _)| phone).collect()
    }

    /// Returns how the members are that have said so.
    pub fn devices(&self) -> impl Iterator<Item = (PeerId, Snapshot)> + '_ {
        let standings = self.standings.iter();

        standings.filter_map(|(&phone, standing)| Some((phone, standing.device?)))
    }

    /// Returns what people allow their phones.
    pub fn policies(&self) -> BTreeMap<PeerId, Policy> {
        self.devices()
            .map(|(phone, device)| (phone, device.policy))
            .collect()
    }

    /// Returns the members that have a model.
    pub fn holders_of(&self, model: ModelId) -> impl Iterator<Item = PeerId> + '_ {
        let holds = move |standing: &Standing| standing.models.iter().any(|m| m.model == model);
        let holders = self.standings.iter().filter(move |(_, s)| holds(s));

        holders.map(|(&phone, _)| phone)
    }

    /// A member is lost: it runs nothing.
    pub fn lost(&mut self, phone: PeerId) {
        if let Some(standing) = self.standings.get_mut(&phone) {
            standing.run = None;
            standing.preparation = None;
            self.untold.insert(phone);
            self.is_shown = false;
        }
    }

    /// Returns what is run: by the leader, or else by whoever has the newest plan.
    pub fn run(&self) -> Option<&Run> {
        let run_of = |phone| self.standings.get(phone)?.run.as_deref();
        let leaders = self.leader.as_ref().and_then(run_of);

        leaders.or_else(|| {
            let runs = self.standings.keys().filter_map(run_of);
            runs.max_by_key(|run| run.epoch)
        })
    }

    /// Returns everything that a screen shows.
    pub fn board(&self) -> Board {
        let left_out = |phone: &PeerId| {
            let leader = self.leader.and_then(|leader| self.standings.get(&leader));
            leader.is_some_and(|leader| leader.left_out.contains(phone))
        };
        let member = |phone: &PeerId| {
            let standing = self.standings.get(phone).cloned().unwrap_or_default();
            let member = MemberStanding {
                is_excluded: standing.is_excluded || left_out(phone),
                rtt: self.rtts.get(phone).copied(),
                standing,
            };
            (*phone, member)
        };
        let me = BTreeSet::from([self.me]);

        Board {
            members: self.members.union(&me).map(member).collect(),
            run: self.run().cloned(),
            asked_here: BTreeMap::new(),
        }
    }

    fn set_members(
        &mut self,
        mut members: BTreeSet<PeerId>,
        leader: Option<PeerId>,
        connected: BTreeSet<PeerId>,
    ) {
        members.insert(self.me);
        let (old, is_other) = (&self.connected, self.leader != leader);
        let is_new = |phone: &PeerId| !old.contains(phone);
        // Whoever is new has heard nothing yet; a new leader has heard only what was said to all.
        if is_other || connected.iter().any(is_new) {
            self.untold.extend(self.standings.keys());
        }
        if is_other || self.members != members {
            self.is_shown = false;
        }

        self.standings.retain(|phone, _| members.contains(phone));
        self.rtts.retain(|phone, _| connected.contains(phone));
        (self.members, self.leader, self.connected) = (members, leader, connected);
    }

    fn hear(&mut self, from: PeerId, message: Message) {
        let is_leaders = self.leader == Some(from);

        match message {
            Message::Members(standings) => {
                for (phone, standing) in standings.into_vec() {
                    let may_say = phone == from || is_leaders;
                    if phone != self.me && self.members.contains(&phone) && may_say {
                        self.set(phone, standing.bounded());
                    }
                }
            }
            Message::Beat(beat) if is_leaders || self.leads() => {
                self.note_beat(beat.bounded(), from);
            }
            Message::Beat(_) => {}
        }
    }

    fn set(&mut self, phone: PeerId, standing: Standing) {
        if self.standings.get(&phone) == Some(&standing) {
            return;
        }

        self.standings.insert(phone, standing);
        self.untold.insert(phone);
        self.is_shown = false;
    }

    fn computed(&mut self, n_layers: u32, n_tokens: u32, decoded_in: Option<Duration>) {
        let mut mine = self.mine().clone();
        let layers = u64::from(n_layers) * u64::from(n_tokens);
        mine.layers_computed = mine.layers_computed.saturating_add(layers);
        if let Some(time) = decoded_in.filter(|time| !time.is_zero()) {
            let measured = n_layers as f32 / time.as_secs_f32();
            let known = mine.layers_per_s.unwrap_or(measured);
            mine.layers_per_s = Some(known + GAIN * (measured - known));
        }

        self.set(self.me, mine);
    }

    fn note_beat(&mut self, beat: Beat, from: PeerId) {
        let is_known = self.beats.contains_key(&beat.asker);
        if !is_known && self.beats.len() >= MEMBERS_MAX {
            return; // somebody makes askers up
        }

        let noted = self.beats.entry(beat.asker).or_insert((beat, from));
        if is_known {
            let tokens = noted.0.tokens.saturating_add(beat.tokens);
            *noted = (Beat { tokens, ..beat }, from);
        }
    }

    /// Returns when others are to be told: `None` if there is nothing to tell or nobody to tell it to.
    fn tell_due(&self) -> Option<Instant> {
        let is_wanted = if self.leads() {
            !self.untold.is_empty() && !self.connected.is_empty()
        } else {
            self.untold.contains(&self.me)
                && self
                    .leader
                    .is_some_and(|leader| self.connected.contains(&leader))
        };

        is_wanted.then_some(self.may_tell_at)
    }

    fn show_due(&self) -> Option<Instant> {
        (!self.is_shown).then_some(self.may_show_at)
    }

    fn beat_due(&self) -> Option<Instant> {
        (!self.beats.is_empty()).then_some(self.may_beat_at)
    }

    fn tell(&mut self, now: Instant) {
        self.may_tell_at = now + TELL_INTERVAL;
        let untold = std::mem::take(&mut self.untold).into_iter();
        let told = untold.filter(|&phone| self.leads() || phone == self.me);
        let told = told.filter_map(|phone| Some((phone, self.standings.get(&phone)?.clone())));
        let message = Message::Members(told.collect());

        for to in self.audience() {
            let message = message.clone();
            self.out.push_back(OutEvent::Send { to, message });
        }
    }

    fn tell_beats(&mut self, now: Instant) {
        self.may_beat_at = now + BEAT_INTERVAL;
        for (beat, from) in std::mem::take(&mut self.beats).into_values() {
            // What the leader has said it has said to all.
            let is_news = self.leads() || from == self.me;
            let audience = self.audience().into_iter();
            for to in audience.filter(|&to| is_news && to != from) {
                let message = Message::Beat(beat);
                self.out.push_back(OutEvent::Send { to, message });
            }
            self.out.push_back(OutEvent::Beat(beat));
        }
    }

    /// Returns whom this phone tells: everybody, if it leads, or else the leader.
    fn audience(&self) -> Vec<PeerId> {
        let is_told = |phone: &PeerId| self.leads() || self.leader == Some(*phone);

        self.connected.iter().copied().filter(is_told).collect()
    }

    fn leads(&self) -> bool {
        self.leader == Some(self.me)
    }
}

impl Standing {
    /// Returns why its phone had better rest, if it had.
    pub fn tiredness(&self) -> Option<Tiredness> {
        self.device.as_ref().and_then(Snapshot::tiredness)
    }

    /// Returns another phone's standing as far as it can be.
    fn bounded(mut self) -> Self {
        self.device = self.device.map(Snapshot::bounded);
        self.layers_per_s = self
            .layers_per_s
            .filter(|layers| (0.0..=LAYERS_PER_S_MAX).contains(layers));
        if let Some(run) = &mut self.run {
            run.forecast = run.forecast.filter(Speed::is_sound);
            run.measured = run.measured.filter(Speed::is_sound);
            for stage in run.stages.iter_mut() {
                let is_sound = |ms: &f32| (0.0..=SECONDS_MAX * 1e3).contains(ms);
                stage.ms_per_token = stage.ms_per_token.filter(is_sound);
                let (start, end) = stage.layers;
                stage.layers = (start, end.max(start));
            }
        }

        self
    }
}

impl Speed {
    fn is_sound(&self) -> bool {
        [self.ttft_s, self.tpot_s]
            .iter()
            .all(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
    }
}

impl Beat {
    fn bounded(self) -> Self {
        let lap_ms = match self.lap_ms {
            lap_ms if lap_ms.is_finite() => lap_ms.clamp(0.0, SECONDS_MAX * 1e3),
            _ => 0.0,
        };

        Self { lap_ms, ..self }
    }
}

/// Returns one of each message, for the wire's own tests.
#[cfg(test)]
pub(crate) fn messages() -> [Message; 2] {
    use crate::profile::testing::SNAPSHOT;
    use crate::testing::{ANNA, BELA};

    let run = Run {
        model: Some(ModelId([1; 32])),
        name: Name::tidy("a model"),
        n_layers: 30,
        started_by: BELA,
        phase: RunPhase::Failed(Trouble::TooSmall { missing_bytes: 7 }),
        epoch: Epoch(3),
        stages: [RunStage {
            phone: ANNA,
            layers: (0, 30),
            ms_per_token: Some(12.5),
        }]
        .into_iter()
        .collect(),
        head: Some(ANNA),
        forecast: Some(Speed {
            ttft_s: 1.0,
            tpot_s: 0.1,
        }),
        measured: None,
        questions: [Question {
            asker: BELA,
            number: 300,
            stage: QuestionStage::Reading { done: 1, total: 2 },
        }]
        .into_iter()
        .collect(),
        n_questions: 1,
    };
    let standing = Standing {
        device: Some(SNAPSHOT),
        is_excluded: true,
        preparation: Some(Preparation {
            step: PreparationStep::Fetching,
            done_bytes: 1,
            total_bytes: 2,
            rate_bytes_per_s: 3,
            left_s: Some(4),
            source: Some(BELA),
        }),
        layers_per_s: Some(5.0),
        layers_computed: 6,
        models: [HeldModel {
            model: ModelId([1; 32]),
            name: Name::tidy("a model"),
        }]
        .into_iter()
        .collect(),
        run: Some(Box::new(run)),
        left_out: [BELA].into_iter().collect(),
    };

    [
        Message::Members([(ANNA, standing)].into_iter().collect()),
        Message::Beat(Beat {
            asker: BELA,
            tokens: 3,
            lap_ms: 20.0,
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testing::SNAPSHOT;
    use crate::testing::{ANNA, BELA, CARL};

    #[test]
    fn a_member_tells_the_leader_and_the_leader_tells_all() {
        let now = Instant::now();
        let mut bela = member(BELA, ANNA, now);
        bela.handle(InEvent::Mine(excluded()), now + TELL_INTERVAL);
        let said = sent(&mut bela);
        assert_eq!(
            said.iter().map(|(to, _)| *to).collect::<Vec<_>>(),
            [ANNA, ANNA]
        );

        let mut anna = member(ANNA, ANNA, now);
        sent(&mut anna);
        for (_, message) in said {
            let from = BELA;
            anna.handle(InEvent::Heard { from, message }, now + TELL_INTERVAL);
        }
        anna.handle_timeout(now + 2 * TELL_INTERVAL);
        let mut carl = member(CARL, ANNA, now);
        for (to, message) in sent(&mut anna) {
            let from = ANNA;
            if to == CARL {
                carl.handle(InEvent::Heard { from, message }, now);
            }
        }

        assert!(carl.board().members[&BELA].is_excluded);
        assert_eq!(carl.excluded_by_themselves(), BTreeSet::from([BELA]));
    }

    #[test]
    fn nobody_but_the_leader_speaks_for_another() {
        let now = Instant::now();
        let of_carl = || Message::Members([(CARL, *excluded())].into_iter().collect());
        let hear = |from| {
            let mut bela = member(BELA, ANNA, now);
            let message = of_carl();
            bela.handle(InEvent::Heard { from, message }, now);
            bela.board().members[&CARL].is_excluded
        };

        assert!(hear(ANNA) && hear(CARL));
        let mut anna = member(ANNA, ANNA, now);
        let (from, message) = (BELA, of_carl());
        anna.handle(InEvent::Heard { from, message }, now);
        assert!(!anna.board().members[&CARL].is_excluded);

        // Nor for a phone that is no member, nor for this one.
        let mut carl = member(CARL, ANNA, now);
        let stranger = PeerId([9; 32]);
        for phone in [CARL, stranger] {
            let message = Message::Members([(phone, *excluded())].into_iter().collect());
            carl.handle(
                InEvent::Heard {
                    from: ANNA,
                    message,
                },
                now,
            );
        }
        assert!(!carl.board().members[&CARL].is_excluded);
        assert!(!carl.board().members.contains_key(&stranger));
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let now = Instant::now();
        let mut bela = member(BELA, ANNA, now);
        let standing = Standing {
            layers_per_s: Some(f32::NAN),
            device: Some(Snapshot {
                free_bytes: u64::MAX,
                ..SNAPSHOT
            }),
            ..Standing::default()
        };
        let message = Message::Members([(ANNA, standing)].into_iter().collect());
        let beat = Beat {
            asker: ANNA,
            tokens: u32::MAX,
            lap_ms: f32::INFINITY,
        };

        for message in [message, Message::Beat(beat), Message::Beat(beat)] {
            bela.handle(
                InEvent::Heard {
                    from: ANNA,
                    message,
                },
                now,
            );
        }
        bela.handle_timeout(now + SHOW_INTERVAL);

        let anna = &bela.board().members[&ANNA].standing;
        assert_eq!(anna.layers_per_s, None);
        assert!(anna.device.unwrap().free_bytes < u64::MAX);
        let beats = std::iter::from_fn(|| bela.poll()).filter_map(|event| match event {
            OutEvent::Beat(beat) => Some(beat),
            _ => None,
        });
        assert!(beats.into_iter().all(|beat| beat.lap_ms == 0.0));
    }

    /// However often something changes, it is told once a second, and the last word is.
    #[test]
    fn changes_are_told_once_a_second_and_shown_four_times() {
        let start = Instant::now();
        let mut anna = member(ANNA, ANNA, start);
        let (mut n_told, mut n_shown, mut last) = (0, 0, None);

        for ms in 0..=10_000 {
            let now = start + Duration::from_millis(ms);
            let n_tokens = u32::from(ms < 9_500);
            let computed = InEvent::Computed {
                n_layers: 1,
                n_tokens,
                decoded_in: None,
            };
            anna.handle(computed, now);
            while let Some(event) = anna.poll() {
                match event {
                    OutEvent::Send { to: BELA, message } => {
                        n_told += 1;
                        last = Some(message);
                    }
                    OutEvent::Show(_) => n_shown += 1,
                    _ => {}
                }
            }
        }

        assert!((10..=12).contains(&n_told), "{n_told}");
        assert!((38..=42).contains(&n_shown), "{n_shown}");
        let Some(Message::Members(told)) = last else {
            panic!("the last word was no standing");
        };
        assert_eq!(told[0].1.layers_computed, 9_500);
    }

    /// Returns the machine of `me` in a group of three that has settled.
    fn member(me: PeerId, leader: PeerId, now: Instant) -> Standings {
        let members = BTreeSet::from([ANNA, BELA, CARL]);
        let connected = members.iter().copied().filter(|&phone| phone != me);
        let mut standings = Standings::new(me, now);
        let event = InEvent::Members {
            connected: connected.collect(),
            leader: Some(leader),
            members,
        };
        standings.handle(event, now);

        standings
    }

    fn excluded() -> Box<Standing> {
        Box::new(Standing {
            is_excluded: true,
            ..Standing::default()
        })
    }

    fn sent(standings: &mut Standings) -> Vec<(PeerId, Message)> {
        let events = std::iter::from_fn(|| standings.poll());

        events
            .filter_map(|event| match event {
                OutEvent::Send { to, message } => Some((to, message)),
                _ => None,
            })
            .collect()
    }
}
