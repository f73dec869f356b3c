//! What phones say to each other about their group, and how it is written.
//!
//! A message is two bytes of [`VERSION`], little-endian, and the rest in postcard. It carries no
//! sender: the connection proves who speaks. [`Door`] is what a stranger may say, [`Body`] what
//! only members may; the shell lets a stranger open nothing but the stream that carries the first.
//!
//! [`decode`] takes any bytes at all. It refuses a long message before it looks at it, and a long
//! list or name before it makes room for it.

use serde::{Deserialize, Serialize};

use super::admission::Purpose;
use super::bounded::{Addresses, Bounded, Name};
use super::code::{Commit, Nonce};
use super::election::Rank;
use super::invite::Proof;
use super::roster::{GroupId, MEMBERS_MAX, Roster, Stamp, Term, Version};
use crate::PeerId;

/// Version of everything in this module. Phones of different versions do not talk, and say so.
pub const VERSION: u16 = 1;

/// Bytes of one message at most.
///
/// The longest is a full roster: 12 members of 32 B key, 65 B name, 8 × 97 B addresses and 20 B
/// stamp, 32 departures of 52 B: 12.4 kB.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Anything that one phone says to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// At the door: between phones of which one is no member, or not yet.
    Door(Door),
    /// Between members of one group.
    Group {
        /// Whose business it is.
        group: GroupId,
        /// What is said.
        body: Body,
    },
}

/// What any phone may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// "I would like us to be in one group." Starts a matching code (`code.rs`).
    Knock {
        /// Whose group it shall be.
        purpose: Purpose,
        /// What the asker is called.
        name: Name,
        /// Seals the asker's nonce.
        commit: Commit,
    },
    /// The answer to a knock.
    Answer {
        /// What the asked phone is called.
        name: Name,
        /// Its nonce.
        nonce: Nonce,
    },
    /// Opens the asker's commit. Both screens can show the code.
    Reveal {
        /// The asker's nonce.
        nonce: Nonce,
    },
    /// "The person here saw the code and says yes."
    Confirm,
    /// "I hold an invite of yours."
    Present {
        /// What the newcomer is called.
        name: Name,
        /// Shows that it knows the secret, and its own key and the host's.
        proof: Proof,
    },
    /// "So you do, and I am the phone that made it."
    Accept {
        /// Shows that the host knows the secret too.
        proof: Proof,
    },
    /// "Agreed, but not yet."
    Wait(WaitReason),
    /// "You are in."
    Welcome(Roster),
    /// "No", or "not any more".
    Refuse(Refusal),
    /// To a phone that speaks as a member: "you are none".
    NotMember {
        /// Of which group.
        group: GroupId,
        /// When the phone left or was removed, if that is remembered.
        gone_at: Option<Stamp>,
    },
    /// To a phone that speaks as a member: "I am none".
    NoMember {
        /// Of which group.
        group: GroupId,
    },
}

/// What members say among themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The leader lives: the lease on its term is longer by one interval.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// Number of its roster.
        number: u64,
        /// Whether an answer is being written.
        writing: bool,
        /// How it sees the members, itself included.
        seen: Bounded<Seen, MEMBERS_MAX>,
    },
    /// "I obey."
    Ack {
        /// Whom.
        term: Term,
        /// The roster held; the leader sends a newer one.
        version: Version,
        /// Digest of the roster held.
        digest: u64,
        /// What this phone is worth as a leader.
        rank: Rank,
    },
    /// The leader's list of members.
    Roster(Roster),
    /// Where this phone stands, said when members meet and while it seeks a leader.
    Hello {
        /// The highest term that it obeyed.
        term: Term,
        /// What it does in it.
        stance: Stance,
    },
    /// "I would lead this term. Would you follow?"
    Stand {
        /// The term it would lead.
        term: Term,
        /// The highest term that it obeyed.
        accepted: Term,
        /// The roster that it holds.
        version: Version,
        /// What it is worth as a leader.
        rank: Rank,
    },
    /// "I would."
    Grant {
        /// The term that was asked for.
        term: Term,
        /// The voter's roster, if it is newer than the candidate's.
        newer: Option<Roster>,
    },
    /// "I would not."
    Decline {
        /// The term that was asked for.
        term: Term,
        /// Why.
        why: Decline,
        /// The highest term that the voter obeyed.
        accepted: Term,
    },
    /// The leader steps down in favour of a member.
    Yield {
        /// The leader's term.
        term: Term,
        /// Who shall stand.
        to: PeerId,
    },
    /// To a new leader: a roster that its own does not account for.
    Merge(Roster),
    /// To a member that was away, and seeks a leader whom it may not know: the roster in force.
    Introduce(Roster),
    /// To the leader: people on this phone and on that one agreed.
    Admit {
        /// Who shall be a member.
        peer: PeerId,
        /// What it is called.
        name: Name,
    },
    /// From the leader: that phone cannot be a member.
    AdmitRefused {
        /// Which.
        peer: PeerId,
        /// Why.
        why: Refusal,
    },
    /// To the leader: this phone's name and addresses, where the roster has others.
    About {
        /// Its name.
        name: Name,
        /// Its addresses.
        addresses: Addresses,
    },
    /// "I shall leave when the answer is written."
    Leaving,
    /// "I leave."
    Leave,
}

/// One member as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The member.
    pub peer: PeerId,
    /// What it is worth as a leader.
    pub rank: Rank,
    /// Whether it answers.
    pub presence: Presence,
}

/// Whether a member answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It does.
    Here,
    /// It missed a few heartbeats.
    Suspect,
    /// It is given up on until it comes back.
    Lost,
}

/// What a phone does in the highest term that it obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stance {
    /// It leads it.
    Leads {
        /// How many members follow.
        followers: u8,
        /// What it is worth as a leader.
        rank: Rank,
    },
    /// It obeys its leader.
    Obeys,
    /// It has lost that leader.
    Seeks,
}

/// Why a member would not follow a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decline {
    /// It obeyed a higher term.
    Stale,
    /// It hears a leader.
    LeaderLives,
    /// It would lead rather, or promised another that would.
    Outranked,
}

/// Why a newcomer has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitReason {
    /// An answer is being written; the group changes after it.
    AnswerBeingWritten,
    /// The group is without a leader for a moment.
    NoLeader,
    /// The leader has been asked.
    Asked,
}

/// Why a phone was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A person said no.
    Declined,
    /// A person changed their mind, or the phone entered another group.
    Cancelled,
    /// Too many ask at once.
    Busy,
    /// Nobody answered in time, or the phone was restarted.
    Expired,
    /// The nonce is not the one that was sealed: the other program is broken, or lies.
    BadCode,
    /// No such invite.
    InviteUnknown,
    /// The invite's time is over.
    InviteExpired,
    /// Another phone used the invite.
    InviteUsed,
    /// The group has no seat left.
    Full,
    /// The leader's person blocked the phone.
    Blocked,
    /// Speaks another version; carried by a message that only its version number can be read of.
    OtherVersion,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("message of {bytes} B, at most {MESSAGE_BYTES_MAX} are read")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// Too short for a version.
    #[error("message of {bytes} B has no version")]
    TooShort {
        /// How long.
        bytes: usize,
    },
    /// Another version than ours.
    #[error("message of version {theirs}, ours is {VERSION}")]
    Version {
        /// The sender's version.
        theirs: u16,
    },
    /// Not what a message of this version looks like.
    #[error("malformed message")]
    Malformed,
    /// A whole message with something behind it.
    #[error("{bytes} B behind the message")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Well written, but an honest phone does not say it.
    #[error("dishonest roster")]
    Roster(#[from] super::roster::RosterError),
}

/// Writes `message`.
pub fn encode(message: &Message) -> Vec<u8> {
    let bytes = VERSION.to_le_bytes().to_vec();

    postcard::to_extend(message, bytes).expect("no map of unknown length in a message")
}

/// Reads a message from whatever another phone sent.
///
/// # Errors
///
/// - see [`DecodeError`]; the first that applies
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    let n = bytes.len();
    if n > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLong { bytes: n });
    }
    let (version, rest) = bytes
        .split_first_chunk()
        .ok_or(DecodeError::TooShort { bytes: n })?;
    let theirs = u16::from_le_bytes(*version);
    if theirs != VERSION {
        return Err(DecodeError::Version { theirs });
    }

    let (message, rest) =
        postcard::take_from_bytes::<Message>(rest).map_err(|_| DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing { bytes: rest.len() });
    }
    if let Some(roster) = message.roster() {
        roster.check()?;
    }
    Ok(message)
}

impl Message {
    /// The roster in it, if there is one.
    fn roster(&self) -> Option<&Roster> {
        if let Self::Door(Door::Welcome(roster)) = self {
            return Some(roster);
        }
        let Self::Group { body, .. } = self else {
            return None;
        };
        if let Body::Roster(roster) | Body::Merge(roster) | Body::Introduce(roster) = body {
            Some(roster)
        } else if let Body::Grant { newer, .. } = body {
            newer.as_ref()
        } else {
            None
        }
    }
}
