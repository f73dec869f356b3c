//! What this phone knows of others, as a screen shows it.
//!
//! A [`View`] hears every event of the node and the time of day, opens nothing and waits for nothing. It says what a
//! person should be told of each event, once, and shows the rest whenever it is asked.
//!
//! | room | what it folds |
//! | --- | --- |
//! | [`around`] | phones nearby, pairings, phones never heard |
//! | [`apart`] | whether the network keeps phones apart |
//! | [`circle`] | the group: who belongs, who leads, who answers, what happened |
//! | [`running`] | what is run, and how members are: the group's own [`proto::standing::Board`] |
//! | [`outlook`] | forecasts |
//! | [`doorway`] | the invite that is open |
//! | [`names`], [`ids`] | what phones are called |

pub mod apart;
pub mod around;
pub mod circle;
pub mod doorway;
pub mod ids;
pub mod names;
pub mod outlook;
pub mod running;

use std::collections::BTreeSet;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use node::event_loop::Event;
use proto::PeerId;
use proto::group::message::Presence;
use proto::group::{Name, OutEvent, PairingEnd as End, Purpose};
use proto::standing::Board;

use crate::api::{
    BlockedPhone, Device, Group, Invite, MessageId, NearbyPhone, NetworkState, Notice, Pairing, Run,
};
use apart::Apart;
use around::Around;
use circle::Circle;
use doorway::Doorway;
use names::Names;

/// What this phone knows of others.
#[derive(Debug)]
pub struct View {
    me: PeerId,
    names: Names,
    around: Around,
    apart: Apart,
    circle: Circle,
    doorway: Doorway,
    board: Board,
    /// Where this phone may be reached, the best first; `None` until that is known.
    addresses: Option<Vec<Multiaddr>>,
    /// What changed the group last: why a plan is made anew.
    last_change: Option<Notice>,
}

impl View {
    /// Begins alone.
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            names: Names::default(),
            around: Around::default(),
            apart: Apart::default(),
            circle: Circle::new(me),
            doorway: Doorway::default(),
            board: Board::default(),
            addresses: None,
            last_change: None,
        }
    }

    /// Notes an event, and returns what a person should be told of it.
    pub fn hear(&mut self, event: &Event, now_unix_ms: u64) -> Vec<Notice> {
        self.names.hear(event);

        let told = match event {
            Event::Group(event) => self.group(event, now_unix_ms),
            Event::Blocked(blocked) => {
                self.around.set_blocked(blocked);
                Vec::new()
            }
            Event::Addresses(addresses) => {
                self.apart.is_at(addresses);
                self.addresses = Some(addresses.clone());
                Vec::new()
            }
            Event::Unreachable {
                phone, is_silent, ..
            } => {
                if *is_silent && self.around.is_met(*phone) {
                    self.apart.is_silent(*phone, self.around.is_near(*phone));
                }
                self.around.unreachable(*phone);
                Vec::new()
            }
            Event::NotReached {
                address, is_silent, ..
            } => {
                if *is_silent {
                    self.apart.is_silent_at(address);
                }
                self.around.not_reached();
                Vec::new()
            }
            Event::Standing(board) => self.stands(board),
            Event::Notice(_)
            | Event::CannotSave(_)
            | Event::Planned(_)
            | Event::Reviewed(_)
            | Event::CannotPlan { .. }
            | Event::Fetching(_)
            | Event::DiskFailed(_)
            | Event::Loading { .. }
            | Event::ForecastWanted { .. }
            | Event::RunWanted { .. }
            | Event::Beat(_) => Vec::new(),
        };
        for notice in &told {
            self.note(notice, now_unix_ms);
        }
        told
    }

    fn group(&mut self, event: &OutEvent, now_unix_ms: u64) -> Vec<Notice> {
        let before = self.circle.ids();
        let mut told = self.circle.hear(event);
        told.extend(self.around.hear(event, &self.names));
        if let OutEvent::Faded(phone) = event {
            self.apart.faded(*phone);
        }
        if is_of_a_phone_reached(event) {
            self.apart.is_reached();
        }

        if let OutEvent::Invited {
            group,
            secret,
            lifetime,
        } = event
        {
            self.doorway
                .invited(*group, *secret, *lifetime, now_unix_ms);
        }
        self.came_and_went(&before);
        told
    }

    /// Who is a member is on no way any more; an invite lets one phone in, into a group.
    fn came_and_went(&mut self, before: &BTreeSet<PeerId>) {
        let after = self.circle.ids();
        let came = after.difference(before).copied().collect::<Vec<_>>();
        let had_group = !before.is_empty();

        if had_group && (after.is_empty() || !came.is_empty()) {
            self.doorway.close();
        }
        if !had_group && !after.is_empty() {
            self.around.has_entered();
        }
        for phone in came {
            self.around.entered(phone);
        }
    }

    fn stands(&mut self, board: &Board) -> Vec<Notice> {
        let rebalanced = running::rebalanced(&self.board, board).map(|(phone, reason)| {
            let name = self.names.of(phone);
            Notice::Rebalanced { name, reason }
        });
        let told = running::notice_of(self.board.run.as_ref(), board.run.as_ref());
        self.board = board.clone();

        rebalanced.into_iter().chain(told).collect()
    }

    fn note(&mut self, notice: &Notice, now_unix_ms: u64) {
        if concerns_group(notice) {
            self.circle.note(notice, now_unix_ms);
        }
        if changes_plan(notice) {
            self.last_change = Some(notice.clone());
        }
    }

    // What this phone's person does

    /// The node runs, and is reached here; it tells more when it knows more.
    pub fn is_at(&mut self, address: &Multiaddr) {
        let addresses = self.addresses.get_or_insert_with(|| vec![address.clone()]);
        self.apart.is_at(addresses);
    }

    /// The node goes on the network: where it is reached then, it has still to tell.
    pub fn is_elsewhere(&mut self) {
        self.addresses = None;
    }

    /// This phone has another name.
    pub fn renamed(&mut self, name: &Name) {
        self.names.note(self.me, name);
    }

    /// Tapped a phone nearby, or typed a code of one; whose that is, is not known.
    pub fn asks(&mut self, phone: Option<PeerId>, purpose: Purpose, has_invite: bool) {
        self.around.asks(phone, purpose, has_invite);
    }

    /// Uses an invite of a phone that says where that is.
    pub fn uses_invite(&mut self, phone: PeerId, addresses: &[Multiaddr]) {
        self.apart.is_invited_by(phone, addresses);
        self.asks(Some(phone), Purpose::Join, true);
    }

    /// Said yes.
    pub fn confirms(&mut self, phone: PeerId) {
        self.around.confirms(phone);
    }

    /// Said no, or has seen enough.
    pub fn puts_away(&mut self, phone: Option<PeerId>) {
        self.around.puts_away(phone);
    }

    /// Wants a member out of the group.
    pub fn removes(&mut self, phone: PeerId) {
        self.circle.removes(phone);
    }

    /// Will leave when the answer is written.
    pub fn will_leave(&mut self) {
        self.circle.will_leave();
    }

    /// Wants to see the invite that comes next.
    pub fn wants_invite(&mut self) {
        self.doorway.open();
    }

    /// Has seen enough of it.
    pub fn closes_invite(&mut self) {
        self.doorway.close();
    }

    // What it shows

    /// Returns this phone.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Returns the name of a phone, as far as it was told.
    pub fn name_of(&self, phone: PeerId) -> String {
        self.names.of(phone)
    }

    /// Returns whether this phone is in a group.
    pub fn in_group(&self) -> bool {
        self.circle.is_some()
    }

    /// Returns how many phones of the group are there, this one among them; 0 if there is none.
    pub fn n_here(&self) -> u32 {
        self.circle.n_here()
    }

    /// Returns whether this phone leads its group, or is in none.
    pub fn leads_here(&self) -> bool {
        self.circle.leads_here()
    }

    /// Returns what the group says of its members.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Returns the group.
    pub fn group_state(&self) -> Option<Group> {
        let mut group = self.circle.group()?;
        for member in &mut group.members {
            if let Ok(peer) = ids::peer_of(&member.id)
                && let Some(known) = self.board.members.get(&peer)
            {
                running::add_standing(member, known);
            }
        }

        Some(group)
    }

    /// Returns what is run; see [`running::run_of`].
    pub fn run(&self, ids: impl Fn(PeerId, u64) -> MessageId) -> Option<Run> {
        let reason = || {
            self.last_change.clone().unwrap_or(Notice::Continuing {
                phones: self.circle.n_here().max(1),
            })
        };

        running::run_of(&self.board, reason, ids)
    }

    /// Returns the phones that compute, in ring order.
    pub fn computing(&self) -> Vec<PeerId> {
        let stages = self.board.run.iter().flat_map(running::stages);

        stages.map(|stage| stage.phone).collect()
    }

    /// Returns how this phone is, as far as it has said so.
    pub fn device(&self) -> Option<Device> {
        let mine = self.board.members.get(&self.me)?;

        mine.standing.device.as_ref().map(running::device_of)
    }

    /// Returns phones nearby.
    pub fn nearby(&self) -> Vec<NearbyPhone> {
        self.around.nearby(&self.circle.ids())
    }

    /// Returns what is known of a phone's version.
    pub fn version(&self, phone: PeerId) -> crate::api::VersionMatch {
        self.around.version(phone)
    }

    /// Returns pairings.
    pub fn pairings(&self) -> Vec<Pairing> {
        self.around.pairings(&self.names)
    }

    /// Returns phones that are never heard.
    pub fn blocked(&self) -> Vec<BlockedPhone> {
        self.around.blocked(&self.names)
    }

    /// Returns the invite that is open.
    pub fn invite(&self, now_unix_ms: u64) -> Option<Invite> {
        let addresses = self.addresses.as_deref().unwrap_or(&[]);

        self.doorway.invite(self.me, addresses, now_unix_ms)
    }

    /// Returns where this phone may be reached.
    pub fn addresses(&self) -> &[Multiaddr] {
        self.addresses.as_deref().unwrap_or(&[])
    }

    /// Returns whether this phone can reach others.
    pub fn network(&self) -> NetworkState {
        match &self.addresses {
            None => NetworkState::Looking,
            Some(addresses) if addresses.iter().all(is_loopback) => NetworkState::NoWifi,
            // A member that answers proves the opposite.
            Some(_) if self.apart.seems_so() && self.circle.n_here() <= 1 => NetworkState::Isolated,
            Some(_) => NetworkState::Ok,
        }
    }
}

/// Returns whether an event tells that another phone was reached.
fn is_of_a_phone_reached(event: &OutEvent) -> bool {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "others are of no phone that speaks"
    )]
    match event {
        OutEvent::Match { .. } | OutEvent::Waiting { .. } | OutEvent::Admitting { .. } => true,
        OutEvent::PairingEnded { end, .. } => {
            matches!(end, End::Done | End::WrongHost | End::Refused(_))
        }
        OutEvent::Present { presence, .. } => *presence == Presence::Here,
        _ => false,
    }
}

/// Returns whether a notice is about the group, and not only about this phone.
pub fn concerns_group(notice: &Notice) -> bool {
    match notice {
        Notice::PhoneJoined { .. }
        | Notice::PhoneLeft { .. }
        | Notice::PhoneLost { .. }
        | Notice::Removed { .. }
        | Notice::LeaderChanged { .. }
        | Notice::Rebalanced { .. }
        | Notice::Continuing { .. }
        | Notice::ContinuingAlone
        | Notice::TooSmall { .. }
        | Notice::ModelReady { .. } => true,
        Notice::YouWereRemoved
        | Notice::PairingEnded { .. }
        | Notice::StartFailed { .. }
        | Notice::HistorySetAside { .. }
        | Notice::DownloadDone { .. }
        | Notice::FileSaved { .. } => false,
    }
}

/// Returns whether a notice says why an answer pauses or goes on: it is told in the conversation, too.
pub fn concerns_answer(notice: &Notice) -> bool {
    let is_arrival = matches!(notice, Notice::PhoneJoined { .. });
    let goes_on = matches!(
        notice,
        Notice::Continuing { .. } | Notice::ContinuingAlone | Notice::TooSmall { .. }
    );

    goes_on || (changes_plan(notice) && !is_arrival)
}

fn changes_plan(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::PhoneLeft { .. }
            | Notice::PhoneLost { .. }
            | Notice::Removed { .. }
            | Notice::Rebalanced { .. }
            | Notice::PhoneJoined { .. }
    )
}

/// Returns whether an address is of this machine only.
fn is_loopback(address: &Multiaddr) -> bool {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only these are addresses of machines"
    )]
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::group::{Addresses, GroupId, Roster, Secret, Term};
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    const ME: PeerId = PeerId([1; 32]);

    #[test]
    fn a_network_that_keeps_phones_apart_is_named_until_somebody_is_reached() {
        let anna = PeerId([2; 32]);
        let address =
            |ip: &str| -> Multiaddr { format!("/ip4/{ip}/tcp/4001").parse().expect("an address") };
        let unreachable = |is_silent| Event::Unreachable {
            phone: anna,
            reason: String::new(),
            is_silent,
        };
        let mut view = View::new(ME);
        view.hear(&Event::Addresses(vec![address("10.0.0.7")]), 0);

        // Members that are away are dialled all the time: only who is wanted by a person counts.
        for _ in 0..3 {
            view.hear(&unreachable(true), 0);
        }
        assert_eq!(view.network(), NetworkState::Ok);

        view.uses_invite(anna, &[address("10.0.0.9")]);
        for _ in 0..3 {
            view.hear(&unreachable(false), 0);
        }
        assert_eq!(
            view.network(),
            NetworkState::Ok,
            "it refuses, so it is there"
        );
        for _ in 0..3 {
            view.hear(&unreachable(true), 0);
        }
        assert_eq!(view.network(), NetworkState::Isolated);

        let refused = OutEvent::PairingEnded {
            peer: anna,
            end: End::Refused(proto::group::message::Refusal::InviteUsed),
        };
        view.hear(&Event::Group(refused), 0);
        assert_eq!(view.network(), NetworkState::Ok, "it has spoken");
    }

    #[test]
    fn an_invite_that_founds_a_group_is_shown() {
        let mut view = View::new(ME);
        let group = GroupId([9; 16]);
        let roster = Roster::found(group, ME, Name::tidy("Me"), Addresses::default());
        let secret = Secret::draw(&mut ChaCha12Rng::seed_from_u64(1));
        view.is_at(&"/ip4/10.0.0.7/tcp/4001".parse().expect("an address"));
        view.wants_invite();

        for event in [
            OutEvent::Joined(group),
            OutEvent::Leader(Some(Term {
                number: 1,
                leader: ME,
            })),
            OutEvent::Members(Box::new(roster)),
            OutEvent::Invited {
                group,
                secret,
                lifetime: Duration::from_secs(60),
            },
        ] {
            assert_eq!(view.hear(&Event::Group(event), 0), []);
        }

        assert!(view.invite(0).is_some());
        assert!(view.in_group() && view.leads_here());
        assert_eq!(view.network(), NetworkState::Ok);
    }
}
