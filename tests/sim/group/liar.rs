//! What a phone may say that does not run our program.
//!
//! A liar knows everything: the group's id, the terms, the rosters, everybody's keys. It cannot
//! speak as somebody else, because connections prove who speaks.

use proto::PeerId;
use proto::group::message::{
    Body, Decline, Door, Message, Presence, Refusal, Seen, Stance, WaitReason, encode,
};
use proto::group::{
    Addresses, Commit, Gone, GroupId, Member, Name, Nonce, Purpose, Rank, Roster, Secret, Stamp,
    Term, Version,
};
use rand::Rng;
use rand_chacha::ChaCha12Rng;

/// What a liar draws on.
pub struct Knowledge<'a> {
    /// The liar's own key.
    pub me: PeerId,
    /// Keys that it may name, its own among them.
    pub peers: &'a [PeerId],
    /// A true roster, if there is a group.
    pub roster: Option<&'a Roster>,
    /// The term in force.
    pub term: Option<Term>,
}

/// Makes up one message: well-formed lies mostly, sometimes plain noise.
pub fn lie(known: &Knowledge<'_>, rng: &mut ChaCha12Rng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0 => noise(rng),
        1 => damaged(known, rng),
        2..=5 => encode(&Message::Door(door(known, rng))),
        _ => {
            let group = known.roster.map_or(GroupId([9; 16]), |roster| roster.group);
            let body = body(known, rng);
            encode(&Message::Group { group, body })
        }
    }
}

fn noise(rng: &mut ChaCha12Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..600)];
    rng.fill(bytes.as_mut_slice());
    if rng.random_bool(0.7) && bytes.len() > 2 {
        bytes[..2].copy_from_slice(&[1, 0]); // our version: reaches the decoder
    }
    bytes
}

/// A lie with a few bytes changed, or cut short.
fn damaged(known: &Knowledge<'_>, rng: &mut ChaCha12Rng) -> Vec<u8> {
    let group = known.roster.map_or(GroupId([9; 16]), |roster| roster.group);
    let body = body(known, rng);
    let mut bytes = encode(&Message::Group { group, body });
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len());
        bytes[at] = rng.random();
    }
    if rng.random_bool(0.3) {
        bytes.truncate(rng.random_range(0..bytes.len()));
    }
    bytes
}

fn door(known: &Knowledge<'_>, rng: &mut ChaCha12Rng) -> Door {
    let group = known.roster.map_or(GroupId([9; 16]), |roster| roster.group);
    let name = Name::tidy("Sam's phone");
    match rng.random_range(0..12) {
        0 => {
            let purpose = if rng.random() {
                Purpose::Join
            } else {
                Purpose::Invite
            };
            let commit = Commit::seal(Nonce::draw(rng), known.me, pick(known.peers, rng));
            Door::Knock {
                purpose,
                name,
                commit,
            }
        }
        1 => Door::Answer {
            name,
            nonce: Nonce::draw(rng),
        },
        2 => Door::Reveal {
            nonce: Nonce::draw(rng),
        },
        3 => Door::Confirm,
        4 | 5 => Door::Present {
            name,
            proof: proof(known, rng),
        },
        6 => Door::Accept {
            proof: proof(known, rng),
        },
        7 => Door::Wait(WaitReason::AnswerBeingWritten),
        8 => match forged(known, rng) {
            Some(roster) => Door::Welcome(roster),
            None => Door::Confirm,
        },
        9 => Door::Refuse(Refusal::Declined),
        10 => Door::NotMember {
            group,
            gone_at: rng.random_bool(0.5).then(|| stamp(known, rng)),
        },
        _ => Door::NoMember { group },
    }
}

fn body(known: &Knowledge<'_>, rng: &mut ChaCha12Rng) -> Body {
    let rank = Rank {
        holds_model: true,
        plugged_in: true,
        memory_mib: u32::MAX,
        speed: u32::MAX,
    };
    let (term, accepted) = (term(known, rng), term(known, rng));
    let truth = known.roster.cloned();
    match rng.random_range(0..16) {
        0 | 1 => Body::Heartbeat {
            term,
            number: rng.random_range(0..99),
            writing: rng.random(),
            seen: known
                .peers
                .iter()
                .map(|&peer| Seen {
                    peer,
                    rank,
                    presence: presence(rng),
                })
                .collect(),
        },
        2 => Body::Ack {
            term,
            version: Version {
                term: accepted,
                number: rng.random_range(0..99),
            },
            digest: rng.random(),
            rank,
        },
        3 | 4 => forged(known, rng).map_or(Body::Leave, Body::Roster),
        5 => Body::Hello {
            term,
            stance: stance(rank, rng),
        },
        6 => {
            let version = truth.map(|roster| roster.version);
            let version = version.unwrap_or(Version { term, number: 1 });
            Body::Stand {
                term,
                accepted,
                version,
                rank,
            }
        }
        7 => Body::Grant {
            term,
            newer: forged(known, rng),
        },
        8 => {
            let why = [Decline::Stale, Decline::LeaderLives, Decline::Outranked];
            Body::Decline {
                term,
                why: pick(&why, rng),
                accepted,
            }
        }
        9 => Body::Yield {
            term,
            to: pick(known.peers, rng),
        },
        10 if rng.random() => forged(known, rng).map_or(Body::Leaving, Body::Introduce),
        10 => forged(known, rng).map_or(Body::Leaving, Body::Merge),
        11 => Body::Admit {
            peer: pick(known.peers, rng),
            name: Name::tidy("friend"),
        },
        12 => Body::AdmitRefused {
            peer: pick(known.peers, rng),
            why: Refusal::Full,
        },
        13 => Body::About {
            name: Name::tidy("liar"),
            addresses: Addresses::default(),
        },
        14 if rng.random() => Body::Ahead { term },
        14 => Body::Leaving,
        _ => Body::Leave,
    }
}

/// A true roster, changed in one or two places, and made to look whole most of the time.
fn forged(known: &Knowledge<'_>, rng: &mut ChaCha12Rng) -> Option<Roster> {
    let mut roster = known.roster?.clone();
    if rng.random_bool(0.8) {
        roster.version.term = term(known, rng);
    }
    let bump = [0, 1, 5, 1 << 20, 1 << 40, u64::MAX / 2];
    roster.version.number = roster.version.number.saturating_add(pick(&bump, rng));
    let since = roster.version.stamp();
    if rng.random_bool(0.5) {
        let victim = pick(known.peers, rng);
        roster.members.retain(|member| member.peer != victim);
        let mut gone: Vec<_> = roster.gone.to_vec();
        gone.push(Gone {
            peer: victim,
            at: since,
        });
        gone.sort_by_key(|gone| gone.peer);
        gone.dedup_by_key(|gone| gone.peer);
        roster.gone = gone.into_iter().collect();
    }
    if rng.random_bool(0.5) {
        let peer = pick(known.peers, rng);
        let (name, addresses) = (Name::tidy("friend"), Addresses::default());
        let mut members: Vec<_> = roster.members.to_vec();
        members.push(Member {
            peer,
            name,
            addresses,
            since,
        });
        members.sort_by_key(|member| member.peer);
        members.dedup_by_key(|member| member.peer);
        roster.members = members.into_iter().collect();
    }
    Some(roster)
}

fn term(known: &Knowledge<'_>, rng: &mut ChaCha12Rng) -> Term {
    let number = known.term.map_or(1, |term| term.number);
    let far = 1 << 32; // as far as a number may reach
    let offset = [
        -2,
        -1,
        0,
        0,
        1,
        1,
        2,
        9,
        far / 2,
        far - 1,
        far,
        far * 2,
        i64::MAX,
    ];
    Term {
        number: number.saturating_add_signed(pick(&offset, rng)),
        leader: if rng.random_bool(0.7) {
            known.me
        } else {
            pick(known.peers, rng)
        },
    }
}

fn stamp(known: &Knowledge<'_>, rng: &mut ChaCha12Rng) -> Stamp {
    Stamp {
        term: term(known, rng).number,
        number: rng.random_range(0..99),
    }
}

fn stance(rank: Rank, rng: &mut ChaCha12Rng) -> Stance {
    match rng.random_range(0..3) {
        0 => Stance::Leads {
            followers: rng.random(),
            rank,
        },
        1 => Stance::Obeys,
        _ => Stance::Seeks,
    }
}

fn presence(rng: &mut ChaCha12Rng) -> Presence {
    pick(&[Presence::Here, Presence::Suspect, Presence::Lost], rng)
}

/// A proof made with a secret that the liar guessed.
fn proof(known: &Knowledge<'_>, rng: &mut ChaCha12Rng) -> proto::group::Proof {
    Secret::draw(rng).newcomers_proof(known.me, pick(known.peers, rng))
}

fn pick<T: Copy>(from: &[T], rng: &mut ChaCha12Rng) -> T {
    from[rng.random_range(0..from.len())]
}
