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

/// Version of everything that phones say: in this module, in [`wire`](crate::wire) and in [`transfer`](crate::transfer).
/// Phones of different versions do not talk, and say so.
pub const VERSION: u16 = 2;

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
    /// To the leader: a member seeks one, and has obeyed a number that is not below the leader's.
    /// It may not know the leader, and so would not be heard by it.
    Ahead {
        /// What it obeyed.
        term: Term,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::group::roster::{Gone, Member};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn every_message_reads_back(message in message()) {
            let bytes = encode(&message);

            prop_assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            prop_assert_eq!(decode(&bytes), Ok(message));
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..400), ours: bool) {
            if ours && bytes.len() >= 2 {
                bytes[..2].copy_from_slice(&VERSION.to_le_bytes());
            }
            if let Ok(message) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&message)), Ok(message));
            }
        }

        #[test]
        fn a_changed_or_cut_message_is_a_message_or_an_error(
            message in message(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encode(&message);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = decode(&bytes[..keep.index(bytes.len() + 1)]);
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn the_longest_roster_fits() {
        let address = || crate::group::Address::new(&[9; crate::group::ADDRESS_BYTES_MAX]);
        let since = Stamp {
            term: 1 << 40,
            number: 1 << 40,
        };
        let term = Term {
            number: 1 << 62,
            leader: PeerId([1; 32]),
        };
        let members = (1..=12).map(|id| Member {
            peer: PeerId([id; 32]),
            name: Name::tidy(&"x".repeat(64)),
            addresses: (0..8).filter_map(|_| address()).collect(),
            since,
        });
        let gone = (20..52).map(|id| Gone {
            peer: PeerId([id; 32]),
            at: since,
        });
        let roster = Roster {
            group: GroupId([7; 16]),
            version: Version {
                term,
                number: 1 << 62,
            },
            members: members.collect(),
            gone: gone.collect(),
        };
        let welcome = Message::Door(Door::Welcome(roster));

        assert_eq!(decode(&encode(&welcome)), Ok(welcome));
    }

    #[test]
    fn what_is_behind_a_message_is_refused() {
        let mut bytes = encode(&Message::Door(Door::Confirm));
        bytes.push(0);

        assert_eq!(decode(&bytes), Err(DecodeError::Trailing { bytes: 1 }));
    }

    #[test]
    fn another_version_is_named_whatever_follows() {
        assert_eq!(
            decode(&[7, 1, 255, 255]),
            Err(DecodeError::Version { theirs: 263 })
        );
    }

    #[test]
    fn a_forged_roster_is_refused_while_it_is_read() {
        let forger = PeerId([1; 32]);
        let mut roster = Roster::found(
            GroupId([7; 16]),
            forger,
            Name::tidy("x"),
            Addresses::default(),
        );
        roster.version.term.leader = PeerId([2; 32]);
        let bytes = encode(&Message::Door(Door::Welcome(roster)));

        assert!(matches!(decode(&bytes), Err(DecodeError::Roster(_))));
    }

    fn message() -> impl Strategy<Value = Message> {
        let group = any::<[u8; 16]>().prop_map(GroupId);
        let door = prop_oneof![
            (purpose(), name(), any::<u64>()).prop_map(|(purpose, name, seed)| {
                let commit = Commit::seal(nonce(seed), peer_of(seed), peer_of(1));
                Door::Knock {
                    purpose,
                    name,
                    commit,
                }
            }),
            (name(), any::<u64>()).prop_map(|(name, seed)| Door::Answer {
                name,
                nonce: nonce(seed)
            }),
            any::<u64>().prop_map(|seed| Door::Reveal { nonce: nonce(seed) }),
            Just(Door::Confirm),
            Just(Door::Wait(WaitReason::NoLeader)),
            Just(Door::Refuse(Refusal::InviteExpired)),
            roster().prop_map(Door::Welcome),
            (group, prop::option::of(stamp()))
                .prop_map(|(group, gone_at)| Door::NotMember { group, gone_at }),
        ];
        let body = prop_oneof![
            (term(), any::<u64>(), any::<bool>(), seen()).prop_map(
                |(term, number, writing, seen)| {
                    Body::Heartbeat {
                        term,
                        number,
                        writing,
                        seen,
                    }
                }
            ),
            (term(), any::<u64>(), rank()).prop_map(|(term, digest, rank)| {
                Body::Ack {
                    term,
                    version: Version { term, number: 3 },
                    digest,
                    rank,
                }
            }),
            roster().prop_map(Body::Roster),
            roster().prop_map(Body::Merge),
            roster().prop_map(Body::Introduce),
            term().prop_map(|term| Body::Ahead { term }),
            (term(), rank()).prop_map(|(term, rank)| {
                Body::Hello {
                    term,
                    stance: Stance::Leads { followers: 2, rank },
                }
            }),
            (term(), term(), rank()).prop_map(|(term, accepted, rank)| {
                Body::Stand {
                    term,
                    accepted,
                    version: Version { term, number: 3 },
                    rank,
                }
            }),
            (term(), prop::option::of(roster()))
                .prop_map(|(term, newer)| Body::Grant { term, newer }),
            term().prop_map(|term| Body::Decline {
                term,
                why: Decline::LeaderLives,
                accepted: term
            }),
            term().prop_map(|term| Body::Yield {
                term,
                to: term.leader
            }),
            (name(), any::<u64>()).prop_map(|(name, seed)| Body::Admit {
                peer: peer_of(seed),
                name
            }),
            name().prop_map(|name| Body::About {
                name,
                addresses: Addresses::default()
            }),
            Just(Body::Leave),
        ];
        let group = any::<[u8; 16]>().prop_map(GroupId);

        prop_oneof![
            door.prop_map(Message::Door),
            (group, body).prop_map(|(group, body)| Message::Group { group, body }),
        ]
    }

    fn roster() -> impl Strategy<Value = Roster> {
        let members = prop::collection::btree_map(0..100u64, (name(), 0..9usize), 1..=MEMBERS_MAX);
        (members, 1..1000u64, 1..1000u64).prop_map(|(members, number, term)| {
            let mut members: Vec<_> = members
                .into_iter()
                .map(|(id, (name, addresses))| Member {
                    peer: peer_of(id),
                    name,
                    addresses: (0..addresses)
                        .filter_map(|i| crate::group::Address::new(&[4; 12][i..]))
                        .collect(),
                    since: Stamp { term, number },
                })
                .collect();
            members.sort_by_key(|member| member.peer);
            let leader = members[0].peer;
            Roster {
                group: GroupId([7; 16]),
                version: Version {
                    term: Term {
                        number: term,
                        leader,
                    },
                    number,
                },
                members: members.into_iter().collect(),
                gone: [Gone {
                    peer: peer_of(777),
                    at: Stamp { term: 1, number: 1 },
                }]
                .into_iter()
                .collect(),
            }
        })
    }

    fn seen() -> impl Strategy<Value = Bounded<Seen, MEMBERS_MAX>> {
        let one = (any::<u64>(), rank()).prop_map(|(seed, rank)| Seen {
            peer: peer_of(seed),
            rank,
            presence: Presence::Suspect,
        });

        prop::collection::vec(one, 0..=MEMBERS_MAX).prop_map(|seen| seen.into_iter().collect())
    }

    fn term() -> impl Strategy<Value = Term> {
        (any::<u64>(), any::<u64>()).prop_map(|(number, seed)| Term {
            number,
            leader: peer_of(seed),
        })
    }

    fn rank() -> impl Strategy<Value = Rank> {
        (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(holds_model, memory_mib, speed)| {
            Rank {
                holds_model,
                plugged_in: !holds_model,
                memory_mib,
                speed,
            }
        })
    }

    fn stamp() -> impl Strategy<Value = Stamp> {
        (any::<u64>(), any::<u64>()).prop_map(|(term, number)| Stamp { term, number })
    }

    fn name() -> impl Strategy<Value = Name> {
        ".{0,80}".prop_map(|typed| Name::tidy(&typed))
    }

    fn purpose() -> impl Strategy<Value = Purpose> {
        prop_oneof![Just(Purpose::Join), Just(Purpose::Invite)]
    }

    fn nonce(seed: u64) -> Nonce {
        use rand::SeedableRng;
        Nonce::draw(&mut rand_chacha::ChaCha12Rng::seed_from_u64(seed))
    }

    fn peer_of(seed: u64) -> PeerId {
        let mut key = [0x5a; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        PeerId(key)
    }
}
