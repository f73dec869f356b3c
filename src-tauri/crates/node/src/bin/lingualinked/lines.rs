//! The JSON that programs read and write: one object a line.
//!
//! On standard output come [`Line`]s, on standard input of `node --json` go [`Order`]s. Both also go over a phone's
//! socket ([`crate::askers`]). The README's "For programs" is the reference.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use proto::chat::{Ask, Figures, Finish};
use proto::placement::Forecast;
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// A phone can be reached.
    Listening {
        /// Whole address, with the peer id.
        address: String,
        /// Where programs of the same user can ask it.
        local: String,
    },
    /// Where other phones may reach this one has changed.
    Addresses {
        /// The best first, with the peer id.
        addresses: Vec<String>,
    },
    /// A phone is near, or has changed. Nothing that it says of itself is proven.
    Nearby(NearbyLine),
    /// A phone is near no more.
    Faded {
        /// Its name.
        phone: String,
        /// That phone.
        peer: String,
    },
    /// Two phones show a code: if it is the same on both, their people may say yes.
    Match {
        /// The other phone's name.
        phone: String,
        /// The other phone.
        peer: String,
        /// Six digits.
        code: String,
        /// `asker` if this phone asked, `asked` if the other did.
        side: String,
    },
    /// Asking, being asked, or using an invite came to an end.
    PairingEnded {
        /// The other phone's name.
        phone: String,
        /// The other phone.
        peer: String,
        /// `done`, or why not.
        end: String,
    },
    /// Both sides have agreed; this phone is let in as soon as that can be.
    Waiting {
        /// Name of the phone that lets it in.
        phone: String,
        /// That phone.
        peer: String,
        /// `answer_being_written`, `no_leader` or `asked`.
        reason: String,
    },
    /// Both sides have agreed; the other phone is let in as soon as that can be.
    Admitting {
        /// Its name.
        phone: String,
        /// That phone.
        peer: String,
        /// As in `waiting`.
        reason: String,
    },
    /// This phone is in a group: founded, joined, or back after a restart.
    Joined {
        /// The group.
        group: String,
    },
    /// Whether a member answers has changed.
    Present {
        /// Its name.
        phone: String,
        /// That phone.
        peer: String,
        /// `here`, `suspect` or `lost`.
        presence: String,
    },
    /// A member will leave when the answer is written.
    Leaving {
        /// Its name.
        phone: String,
        /// That phone.
        peer: String,
    },
    /// A phone speaks another version, and cannot be in a group with this one.
    OtherVersion {
        /// Its name.
        phone: String,
        /// That phone.
        peer: String,
        /// Its version.
        version: u16,
        /// Which of them should be updated: `this` or `other`.
        older: String,
    },
    /// Who is in the group.
    Members {
        /// Each of them, this phone too.
        members: Vec<MemberLine>,
    },
    /// Another phone leads.
    Leader {
        /// Its name; nobody, while a leader is sought.
        phone: Option<String>,
        /// That phone.
        peer: Option<String>,
        /// Number of the election that it won. What a phone shows here only rises.
        term: Option<u64>,
    },
    /// This phone is in no group any more.
    Left {
        /// `left`, `removed` or `switched`.
        reason: String,
    },
    /// An invite for one phone.
    Invite {
        /// The link.
        link: String,
        /// The same to be typed by hand; where this phone has an IPv4 address.
        code: Option<String>,
        /// When it expires, in seconds since 1970.
        expires_unix_s: u64,
    },
    /// No phone is where a typed code says.
    NotReached {
        /// Where that is.
        address: String,
        /// Why, for people.
        reason: String,
    },
    /// Which phones are never heard.
    Blocked {
        /// Each of them.
        phones: Vec<PhoneLine>,
    },
    /// A phone was dialled and not reached; it may be dialled again.
    Unreachable {
        /// Its name.
        phone: String,
        /// That phone.
        peer: String,
        /// Why, for people.
        reason: String,
    },
    /// How things stand: the answer to [`Order::Status`].
    Status {
        /// This phone's name.
        phone: String,
        /// This phone.
        peer: String,
        /// Where other phones reach it best.
        address: String,
        /// Who is in its group; nobody, if it is in none.
        members: Vec<MemberLine>,
        /// Phones nearby.
        nearby: Vec<NearbyLine>,
        /// Phones that are never heard.
        blocked: Vec<PhoneLine>,
        /// The last `plan` line, while that plan is in force.
        plan: Option<Box<Line>>,
        /// The last `measured` line of that plan.
        #[serde(default)]
        measured: Option<Box<Line>>,
        /// How each member is, this phone too.
        standings: Vec<StandingLine>,
        /// What is run, or would be.
        run: Option<RunLine>,
    },
    /// Phones are measured for a forecast.
    Measuring {
        /// Names of those of which it is not known yet what they can do.
        unknown: Vec<String>,
    },
    /// What to expect of this phone's model: the answer to [`Order::Forecast`].
    Forecast {
        /// Of the group as it is.
        group: OutlookLine,
        /// Of this phone alone.
        alone: OutlookLine,
        /// Without each of the other phones that would compute.
        without: Vec<WithoutLine>,
        /// Why each phone gets what it gets.
        reasons: Vec<ReasonLine>,
    },
    /// Shards are being checked or written.
    Preparing {
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
        /// Bytes a second that come in; 0 if nothing does.
        rate_bytes_per_s: u64,
        /// Seconds until all are here, at this rate.
        left_s: Option<f64>,
        /// Phones that they come from.
        n_sources: usize,
        /// Whether these are shards that are only kept at hand.
        spare: bool,
    },
    /// A plan was made, on the phone that leads.
    Planned {
        /// What is expected of it.
        forecast: ForecastLine,
        /// What would be expected of this phone alone, if the model fits it.
        alone: Option<ForecastLine>,
        /// How firmly it is the best.
        optimality: String,
        /// Why each phone got what it got.
        reasons: Vec<ReasonLine>,
    },
    /// An answer that had the ring to itself beside what was expected of it, on the phone that leads.
    Measured {
        /// Tokens of its prompt that had to be read.
        prompt_tokens: u32,
        /// Tokens of the answer.
        completion_tokens: u32,
        /// Time to the first token.
        ttft_ms: f64,
        /// Time for each token after it.
        tpot_ms: f64,
        /// What was expected of such a prompt when the plan was made.
        forecast: ForecastLine,
        /// The same, corrected by the work until then.
        corrected: Option<ForecastLine>,
        /// How far the time to the first token was out: 0.1 if it took a tenth longer than forecast.
        ttft_error: f64,
        /// The same of the time per token.
        tpot_error: f64,
    },
    /// Shards are being loaded.
    Loading {
        /// Between 0 and 1.
        fraction: f32,
    },
    /// A plan is in force.
    Plan {
        /// Its number.
        epoch: u64,
        /// Phone that reads and writes the words.
        head: String,
        /// Who runs which layers, in ring order.
        stages: Vec<StageLine>,
    },
    /// A person wanted no more of what was run: no model is run.
    Stopped,
    /// A question waits for others.
    Queued {
        /// The question's number, where there can be several.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Questions before it.
        ahead: u32,
    },
    /// A prompt is being read.
    Reading {
        /// The question's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Tokens read.
        done: u32,
        /// Tokens in all.
        total: u32,
    },
    /// A token of an answer.
    Token {
        /// The question's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// The token's number.
        token: u32,
        /// Text since the last one.
        text: String,
    },
    /// An answer has ended.
    Done {
        /// The question's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// All of its text.
        text: String,
        /// Why it ended.
        finish: Finish,
        /// What it cost.
        #[serde(flatten)]
        figures: Figures,
    },
    /// Something failed. With an `id`, only that answer.
    Error {
        /// The question's number.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        id: Option<u64>,
        /// What, for people.
        message: String,
    },
}

/// One phone of the group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberLine {
    /// Its name.
    pub phone: String,
    /// That phone.
    pub peer: String,
    /// Whether it led when this was written.
    pub leader: bool,
    /// Whether it answered when this was written: `here`, `suspect` or `lost`.
    pub presence: String,
}

/// How a phone is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StandingLine {
    /// Its name.
    pub phone: String,
    /// That phone.
    pub peer: String,
    /// Whether a person left it out of computing.
    pub excluded: bool,
    /// Why it had better rest: `low_battery`, `hot`, `not_charging` or `metered`.
    pub tired: Option<String>,
    /// Memory that it may use.
    pub budget_bytes: Option<u64>,
    /// Battery, in percent.
    pub battery_percent: Option<u8>,
    /// What it does with its part of the plan: `waiting`, `fetching`, `checking`, `loading` or `ready`.
    pub preparation: Option<String>,
    /// Layers that it computes a second.
    pub layers_per_s: Option<f32>,
    /// Layers times tokens that it has computed.
    pub layers_computed: u64,
    /// Round trip from this phone.
    pub rtt_ms: Option<f64>,
}

/// What is run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunLine {
    /// The model's name.
    pub model: String,
    /// Name of the phone on which it was started.
    pub started_by: String,
    /// `measuring`, `preparing`, `ready` or `failed`.
    pub phase: String,
    /// Milliseconds for a token, as expected.
    pub forecast_tpot_ms: Option<f64>,
    /// The same, of the last answers.
    pub measured_tpot_ms: Option<f64>,
    /// Questions under way.
    pub questions: Vec<QuestionLine>,
}

/// A question under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuestionLine {
    /// Name of the phone that asked.
    pub phone: String,
    /// `waiting`, `reading` or `writing`.
    pub stage: String,
    /// Questions before it; tokens read; tokens written.
    pub done: u32,
}

/// What to expect of some phones.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OutlookLine {
    /// They run the model.
    Runs {
        /// How quickly.
        #[serde(flatten)]
        forecast: ForecastLine,
        /// Who runs which layers, in ring order.
        stages: Vec<StageLine>,
        /// Name of the phone that each token waits for longest.
        slowest: String,
        /// Bytes that phones would have to get.
        fetch_bytes: u64,
    },
    /// They do not.
    DoesNotRun {
        /// Why, for people.
        reason: String,
        /// Memory that is missing, if that is why.
        missing_bytes: Option<u64>,
    },
}

/// What to expect without a phone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WithoutLine {
    /// Its name.
    pub phone: String,
    /// That phone.
    pub peer: String,
    /// What to expect.
    pub outlook: OutlookLine,
}

/// A phone nearby.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NearbyLine {
    /// What it calls itself.
    pub phone: String,
    /// That phone.
    pub peer: String,
    /// The group that it is in; `null` for none.
    pub group: Option<String>,
    /// The version that it speaks.
    pub version: u16,
}

/// A phone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PhoneLine {
    /// Its name.
    pub phone: String,
    /// That phone.
    pub peer: String,
}

/// What is expected of a plan.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ForecastLine {
    /// Time to the first token: of a prompt of 256 tokens where nothing else is said.
    pub ttft_ms: f64,
    /// Time for each token after it.
    pub tpot_ms: f64,
}

impl ForecastLine {
    /// Returns a forecast as lines have it.
    pub fn of(forecast: &Forecast) -> Self {
        Self {
            ttft_ms: forecast.ttft_s * 1e3,
            tpot_ms: forecast.tpot_s * 1e3,
        }
    }
}

/// Why a phone got what it got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReasonLine {
    /// Its name.
    pub phone: String,
    /// That phone.
    pub peer: String,
    /// Why, for people.
    pub reason: String,
}

/// One stage of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageLine {
    /// The phone's name.
    pub phone: String,
    /// First layer, and the one after the last.
    pub layers: [u32; 2],
}

/// What a program wants of a phone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Answer this.
    Ask {
        /// Number that the answer's lines carry.
        id: u64,
        /// The question.
        ask: Ask,
    },
    /// No more of that answer.
    Cancel {
        /// Its number.
        id: u64,
    },
    /// Ask the phone at an address to be let into its group.
    Meet {
        /// Its address, which ends in `/p2p/PEER`.
        address: String,
    },
    /// Ask a phone nearby to be let into its group, or to come into this one's.
    Tap {
        /// That phone.
        peer: String,
        /// Whether it shall come into this phone's group.
        #[serde(default)]
        invite: bool,
    },
    /// The code is the same on both phones.
    Confirm {
        /// The other phone.
        peer: String,
    },
    /// No to a phone that asks, or no more of asking it.
    Refuse {
        /// The other phone.
        peer: String,
    },
    /// Make a link that lets one phone in.
    Invite,
    /// Use such a link.
    Present {
        /// The link.
        link: String,
    },
    /// Use the code of such a link, typed by hand.
    JoinCode {
        /// The code; case, hyphens and spaces do not matter.
        code: String,
    },
    /// Leave the group, after the answer that is being written.
    Leave,
    /// Take a phone out of the group that this one leads.
    Remove {
        /// That phone.
        peer: String,
    },
    /// Never hear a phone again.
    Block {
        /// That phone.
        peer: String,
    },
    /// Hear it again.
    Unblock {
        /// That phone.
        peer: String,
    },
    /// Have another member lead the group that this one leads.
    HandOver {
        /// That phone.
        peer: String,
    },
    /// Call this phone something else.
    Rename {
        /// Its name.
        name: String,
    },
    /// Knock at every address of the own network, once.
    Probe,
    /// Run this phone's model when it leads and so many phones are here.
    Run {
        /// Phones, this one among them.
        phones: u32,
    },
    /// Run nothing any more: on the phone that leads, or on the one where it was started.
    StopRunning,
    /// Say what to expect of this phone's model, and move nothing.
    Forecast,
    /// Leave a phone out of computing, or let it take part again: this one, or any if this one leads.
    Exclude {
        /// That phone.
        peer: String,
        /// Whether it is left out.
        excluded: bool,
    },
    /// Have another model, or none.
    SetModel {
        /// Its file.
        path: Option<PathBuf>,
    },
    /// Let others see this phone nearby, or no more.
    Visible {
        /// Whether they may.
        visible: bool,
    },
    /// Look for phones nearby, or rest.
    Look {
        /// Whether they are looked for.
        looking: bool,
    },
    /// Let go of everybody, as an app that is put into the background does.
    Suspend,
    /// Be there again.
    Resume,
    /// Say how things stand.
    Status,
    /// End.
    Stop,
}

/// Says what a command failed with as a line, where a program reads lines.
///
/// # Errors
///
/// The same where people read, for `main` to say.
pub fn or_error_line(json: bool, result: Result<Outcome>) -> Result<Outcome> {
    match result {
        Err(error) if json => {
            print(&Line::Error {
                id: None,
                message: message(&error),
            })?;
            Ok(Outcome::Failed)
        }
        other => other,
    }
}

/// Returns what went wrong and why, each thing said once: some of our errors have their cause's words in
/// their own.
pub fn message(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(error.to_string(), |message, cause| {
            let cause = cause.to_string();
            if message.ends_with(&cause) {
                message
            } else {
                format!("{message}: {cause}")
            }
        })
}

/// Writes a line to standard output at once.
///
/// # Errors
///
/// If nobody reads it any more.
pub fn print(line: &Line) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(&line.to_json())?;
    out.flush()
}

impl Order {
    /// Returns the order as a line of JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json_line(self)
    }
}

impl Line {
    /// Returns the line as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json_line(self)
    }

    /// Returns the number of the question that a line belongs to.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Queued { id, .. }
            | Self::Reading { id, .. }
            | Self::Token { id, .. }
            | Self::Done { id, .. }
            | Self::Error { id, .. } => *id,
            _ => None,
        }
    }

    /// Returns the line without that number.
    pub fn without_id(mut self) -> Self {
        match &mut self {
            Self::Queued { id, .. }
            | Self::Reading { id, .. }
            | Self::Token { id, .. }
            | Self::Done { id, .. }
            | Self::Error { id, .. } => *id = None,
            _ => {}
        }
        self
    }
}

fn json_line(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("lines and orders are plain data");
    text.push(b'\n');

    text
}
