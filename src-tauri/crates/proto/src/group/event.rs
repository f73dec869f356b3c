//! All that a [`Group`](super::Group) takes and gives.

use std::time::Duration;

use super::Saved;
use super::admission::{PairingEnd, Purpose, Side};
use super::bounded::{Addresses, Name};
use super::code::Code;
use super::election::Rank;
use super::invite::Secret;
use super::message::{DecodeError, Message, Presence, WaitReason};
use super::nearby::Sighting;
use super::roster::{GroupId, Roster, Term};
use crate::PeerId;

/// What happened.
#[derive(Debug, Clone)]
pub enum InEvent {
    /// Discovery saw a phone, for the first time or again.
    Sighted(Sighting),
    /// Discovery saw a phone leave.
    Unsighted(PeerId),
    /// A connection to a phone is open. Also the answer to [`OutEvent::Dial`] if it already was.
    Connected(PeerId),
    /// The last connection to a phone is closed.
    Disconnected(PeerId),
    /// A phone, proven by its connection, said something.
    Received {
        /// Who.
        from: PeerId,
        /// What.
        message: Box<Message>,
    },
    /// A phone sent what [`decode`](super::message::decode) refused.
    Garbled {
        /// Who.
        from: PeerId,
        /// Why it was refused.
        error: DecodeError,
    },
    /// The pipeline began or ended work on an answer on this phone.
    Writing(bool),
    /// What this phone is worth as a leader has changed.
    Ranked(Rank),
    /// Where this phone may be reached has changed.
    Readdressed(Addresses),
    /// A person, or who acts for one, wants something.
    Command(Command),
}

/// What a person wants.
#[derive(Debug, Clone)]
pub enum Command {
    /// To be in one group with a nearby phone: tapped it.
    Ask {
        /// The phone.
        peer: PeerId,
        /// Whose group it shall be.
        purpose: Purpose,
    },
    /// Saw the code on both screens and says yes.
    Confirm(PeerId),
    /// Says no to a phone that asks, or stops asking it.
    Refuse(PeerId),
    /// An invite for one phone; founds a group if there is none.
    Invite {
        /// For how long; at most [`INVITE_LIFETIME_MAX`](super::INVITE_LIFETIME_MAX).
        lifetime: Duration,
    },
    /// To use an invite. The shell has dialled the typed address and knows who is there.
    Present {
        /// The phone that made the invite.
        host: PeerId,
        /// Where the link says it is.
        addresses: Addresses,
        /// From the link or the typed code.
        secret: Secret,
        /// From the link.
        group: Option<GroupId>,
    },
    /// To leave the group.
    Leave(When),
    /// A member out of the group. Only the leader's phone does that.
    Remove(PeerId),
    /// Never to be asked by a phone again, nor to see it nearby. The leader's phone also takes it
    /// out of the group, and lets it in for nobody. On other phones it stays a member: people who
    /// do not want to be in one group with it leave.
    Block(PeerId),
    /// To hear of it again.
    Unblock(PeerId),
    /// Another member to lead. Only the leader's phone does that.
    HandOver(PeerId),
    /// Another name for this phone.
    Rename(Name),
}

/// When to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When the answer that is being written is done.
    AfterAnswer,
    /// At once.
    Now,
}

/// What to do, in this order.
#[derive(Debug, Clone)]
pub enum OutEvent {
    /// Write this down, durably, *before* the events that follow are carried out: a phone that
    /// forgets whom it obeyed may obey an older leader.
    Save(Box<Saved>),
    /// Send to a phone if it is connected, else drop.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Box<Message>,
    },
    /// Connect to a phone, at these addresses or those that discovery knows. Answered by
    /// [`InEvent::Connected`], or not at all; it is asked for again.
    Dial {
        /// Whom.
        peer: PeerId,
        /// Where.
        addresses: Addresses,
    },
    /// Close the connections to a phone, which is silent though they seem open: after a change of address, nothing
    /// comes through them any more, and nobody is told. Answered by [`InEvent::Disconnected`].
    HangUp(PeerId),
    /// A nearby phone is new or has changed.
    Nearby(Sighting),
    /// A nearby phone is there no more.
    Faded(PeerId),
    /// Show who it is and the code, and ask for [`Command::Confirm`] or [`Command::Refuse`].
    Match {
        /// The other phone.
        peer: PeerId,
        /// What it calls itself.
        name: Name,
        /// Whose group it shall be.
        purpose: Purpose,
        /// Whether this phone asks or is asked.
        side: Side,
        /// What both screens show.
        code: Code,
    },
    /// Asking, being asked, or using an invite came to an end.
    PairingEnded {
        /// The other phone.
        peer: PeerId,
        /// How.
        end: PairingEnd,
    },
    /// Agreed with a host, but it cannot let us in yet.
    Waiting {
        /// The host.
        host: PeerId,
        /// Why.
        reason: WaitReason,
    },
    /// A phone has agreed, and waits to be let in by this one.
    Admitting {
        /// Which.
        peer: PeerId,
        /// What it is called.
        name: Name,
        /// Why it has to wait.
        reason: WaitReason,
    },
    /// The invite that was asked for; the shell adds addresses and the time of day.
    Invited {
        /// The group.
        group: GroupId,
        /// Lets one phone in.
        secret: Secret,
        /// For how long.
        lifetime: Duration,
    },
    /// This phone is in a group: founded, joined, or back after a restart.
    Joined(GroupId),
    /// This phone is in no group.
    Left {
        /// The group that it was in.
        group: GroupId,
        /// Why.
        reason: LeaveReason,
    },
    /// Whom this phone obeys has changed; nobody, while a leader is sought.
    Leader(Option<Term>),
    /// Who belongs has changed. Only these phones may open any stream but the join stream.
    Members(Box<Roster>),
    /// Whether a member answers has changed.
    Present {
        /// The member.
        peer: PeerId,
        /// Whether it does.
        presence: Presence,
    },
    /// A member will leave when the answer is written: plan without it.
    Leaving(PeerId),
    /// A phone speaks another version.
    OtherVersion {
        /// The phone.
        peer: PeerId,
        /// Its version.
        theirs: u16,
        /// Which phone should be updated.
        older: Older,
    },
    /// A command could not be carried out.
    Refused(CommandError),
}

/// Why this phone is in no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// A person said so.
    Left,
    /// The group does not count this phone among its members.
    Removed,
    /// It entered another group.
    Switched,
}

/// Which of two phones runs the older version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// This one.
    Ours,
    /// The other one.
    Theirs,
}

/// Why a command could not be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Only the leader's phone does that.
    #[error("only the leader's phone can do that")]
    NotLeader,
    /// That needs a group.
    #[error("this phone is in no group")]
    NoGroup,
    /// That phone is no member.
    #[error("{0} is no member")]
    NoMember(PeerId),
    /// That phone is in the group already.
    #[error("{0} is a member already")]
    MemberAlready(PeerId),
    /// This phone is already asking another, and a person there may be looking at the code.
    #[error("already asking {0}")]
    Asking(PeerId),
    /// Nobody asks, or its code is not there yet.
    #[error("nothing to answer to {0}")]
    NotAsked(PeerId),
    /// That phone is blocked.
    #[error("{0} is blocked")]
    Blocked(PeerId),
    /// A phone cannot do that to itself.
    #[error("that is this phone")]
    Self_,
    /// No more phones can be blocked; unblock one.
    #[error("{0} phones are blocked already")]
    BlockedTooMany(usize),
}
