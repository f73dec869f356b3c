//! The group, and the ways into it.

use std::time::Duration;

use libp2p::Multiaddr;
use node::discovery::address;
use proto::group::{Command, Invite, InviteError, Purpose, TypedCode, When};

use super::models::refused;
use super::worker::Worker;
use crate::api::{LeaveWhen, PairingPurpose, PhoneId, Problem, VersionMatch};
use crate::view::around::is_unknown;
use crate::view::ids::peer_of;

/// For how long an invite lets somebody in: long enough to walk over and type it. A guess.
const INVITE_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// For how long the invite is good that founds a group, and that nobody sees.
const UNSEEN_LIFETIME: Duration = Duration::from_millis(1);

impl Worker {
    /// Looks for other phones, or does not. The node hears of them anyway.
    pub(super) async fn look(&mut self, on: bool) -> Result<(), Problem> {
        let was = std::mem::replace(&mut self.looking, on);

        if let Ok(handle) = self.handle()
            && was != on
        {
            handle.set_looking(on).await;
        }
        Ok(())
    }

    /// Knocks at every address of this network, for phones that are not heard. A network may take that for an attack: only
    /// because a person asks for it.
    pub(super) async fn knock(&mut self) -> Result<(), Problem> {
        self.check_network()?;
        self.handle()?.probe().await;

        Ok(())
    }

    pub(super) async fn start_group(&mut self) -> Result<(), Problem> {
        if self.view.in_group() {
            return Ok(());
        }
        let lifetime = UNSEEN_LIFETIME;

        self.group(Command::Invite { lifetime }).await
    }

    pub(super) async fn pair(
        &mut self,
        phone: &PhoneId,
        purpose: PairingPurpose,
    ) -> Result<(), Problem> {
        self.check_network()?;
        let peer = peer_of(phone)?;
        let version = self.view.version(peer);
        if version != VersionMatch::Same {
            return Err(Problem::OtherVersion { version });
        }
        let purpose = match purpose {
            PairingPurpose::Join => Purpose::Join,
            PairingPurpose::Invite => Purpose::Invite,
        };

        self.group(Command::Ask { peer, purpose }).await?;
        self.view.asks(Some(peer), purpose, false);
        Ok(())
    }

    pub(super) async fn confirm(&mut self, phone: &PhoneId) -> Result<(), Problem> {
        let peer = peer_of(phone)?;
        self.group(Command::Confirm(peer)).await?;

        self.view.confirms(peer);
        Ok(())
    }

    pub(super) async fn refuse(&mut self, phone: &PhoneId) -> Result<(), Problem> {
        if is_unknown(phone) {
            self.view.puts_away(None);
            return Ok(());
        }
        let peer = peer_of(phone)?;
        self.group(Command::Refuse(peer)).await?;

        self.view.puts_away(Some(peer));
        Ok(())
    }

    pub(super) async fn invite(&mut self) -> Result<(), Problem> {
        self.check_network()?;
        let lifetime = INVITE_LIFETIME;
        self.view.wants_invite();

        self.group(Command::Invite { lifetime }).await
    }

    /// A link opened the app. Any web page can do that, so a person is asked first.
    pub(super) fn opened(&mut self, link: String) {
        match Invite::from_link(&link) {
            Ok(_) => self.opened_invite = Some(link),
            Err(error) => tracing::info!(%error, "The app was opened by a link that is no invite"),
        }
    }

    /// Uses a link, or a typed code.
    pub(super) async fn use_invite(&mut self, text: &str) -> Result<(), Problem> {
        let text = text.trim();
        match Invite::from_link(text) {
            Ok(invite) => self.use_link(invite).await?,
            Err(InviteError::NotALink) => self.use_code(text).await?,
            Err(error) => return Err(problem_of(&error)),
        }

        self.opened_invite = None;
        Ok(())
    }

    async fn use_link(&mut self, invite: Invite) -> Result<(), Problem> {
        self.check_network()?;
        let addresses = invite.addresses.iter();
        let addresses = addresses.filter_map(|address| address.parse().ok());
        let addresses = addresses.collect::<Vec<Multiaddr>>();
        let present = Command::Present {
            host: invite.host,
            addresses: address::to_wire(&addresses),
            secret: invite.secret,
            group: Some(invite.group),
        };

        self.group(present).await?;
        self.view.uses_invite(invite.host, &addresses);
        Ok(())
    }

    async fn use_code(&mut self, text: &str) -> Result<(), Problem> {
        let code = TypedCode::from_text(text).map_err(|error| problem_of(&error))?;
        self.check_network()?;
        self.handle()?.present_typed(code).await;

        self.view.asks(None, Purpose::Join, true);
        Ok(())
    }

    pub(super) async fn leave_group(&mut self, when: LeaveWhen) -> Result<(), Problem> {
        let when = match when {
            LeaveWhen::AfterAnswer => When::AfterAnswer,
            LeaveWhen::Now => When::Now,
        };
        self.group(Command::Leave(when)).await?;

        self.view.will_leave();
        Ok(())
    }

    pub(super) async fn remove(&mut self, phone: &PhoneId) -> Result<(), Problem> {
        self.check_leads()?;
        let peer = peer_of(phone)?;
        self.view.removes(peer);

        self.group(Command::Remove(peer)).await
    }

    pub(super) async fn hand_over(&mut self, phone: &PhoneId) -> Result<(), Problem> {
        self.check_leads()?;

        self.group(Command::HandOver(peer_of(phone)?)).await
    }

    pub(super) async fn exclude(
        &mut self,
        phone: &PhoneId,
        is_excluded: bool,
    ) -> Result<(), Problem> {
        let excluded = self.handle()?.exclude(peer_of(phone)?, is_excluded).await;

        excluded.map_err(refused)
    }

    pub(super) async fn block(&mut self, phone: &PhoneId) -> Result<(), Problem> {
        let peer = peer_of(phone)?;
        self.view.removes(peer);

        self.group(Command::Block(peer)).await
    }

    pub(super) async fn unblock(&mut self, phone: &PhoneId) -> Result<(), Problem> {
        self.group(Command::Unblock(peer_of(phone)?)).await
    }

    fn check_leads(&self) -> Result<(), Problem> {
        match self.view.leads_here() {
            true => Ok(()),
            false => Err(Problem::NotLeader),
        }
    }

    pub(super) async fn group(&self, command: Command) -> Result<(), Problem> {
        self.handle()?.group(command).await;

        Ok(())
    }
}

/// Returns why a link or a code cannot be used.
fn problem_of(error: &InviteError) -> Problem {
    match error {
        InviteError::NotALink | InviteError::TooLong { .. } | InviteError::NotACode => {
            Problem::NotALink
        }
        InviteError::Field { .. } | InviteError::Mistyped => Problem::Mistyped,
        InviteError::Version { .. } => Problem::OtherVersion {
            version: VersionMatch::OursOlder,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_link_nor_code_is_said_to_be_neither() {
        for text in ["", "hello", "https://example.org", "lingualinked://", "🦙"] {
            let mut error = Invite::from_link(text).expect_err("it is no link");
            if error == InviteError::NotALink {
                error = TypedCode::from_text(text).expect_err("nor a code");
            }
            assert_eq!(problem_of(&error), Problem::NotALink, "{text}");
        }
    }
}
