//! This phone: its name, its person's decisions, its circumstances.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use node::start::Handle;

use super::answers::problem;
use super::request::Order;
use super::worker::{Node, Worker};
use crate::api::{Diagnostics, NetworkState, Problem, SettingChange, Settings};

/// What models and shards may take if nobody says otherwise.
const QUOTA_BYTES: u64 = 16 << 30;

/// Battery below which a phone computes for nobody else, if nobody says otherwise: people begin to worry at a fifth.
const BATTERY_FLOOR: f64 = 0.2;

/// How long the node may take to tell others that it goes. The system does not wait much longer for an app that ends.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// Returns the settings of a phone whose person has decided nothing yet.
pub fn settings() -> Settings {
    Settings {
        memory_limit_bytes: None,
        battery_floor: BATTERY_FLOOR,
        only_while_charging: false,
        use_metered: false,
        storage_quota_bytes: QUOTA_BYTES,
        keep_screen_on: true,
        visible: true,
    }
}

impl Worker {
    /// Carries out what a person wants.
    pub(super) async fn order(&mut self, order: Order) -> Result<(), Problem> {
        self.changed = true;

        match order {
            Order::Rename(name) => self.rename(name).await,
            Order::Welcome => self.welcome().await,
            Order::ChangeSetting(change) => self.change_setting(change).await,
            Order::Look(on) => self.look(on).await,
            Order::Knock => self.knock().await,
            Order::StartGroup => self.start_group().await,
            Order::Pair(phone, purpose) => self.pair(&phone, purpose).await,
            Order::Confirm(phone) => self.confirm(&phone).await,
            Order::Refuse(phone) => self.refuse(&phone).await,
            Order::Invite => self.invite().await,
            Order::CloseInvite => {
                self.view.closes_invite();
                Ok(())
            }
            Order::UseInvite(text) => self.use_invite(&text).await,
            Order::PutAwayInvite => {
                self.opened_invite = None;
                Ok(())
            }
            Order::Leave(when) => self.leave_group(when).await,
            Order::Remove(phone) => self.remove(&phone).await,
            Order::HandOver(phone) => self.hand_over(&phone).await,
            Order::Exclude(phone, excluded) => self.exclude(&phone, excluded).await,
            Order::Block(phone) => self.block(&phone).await,
            Order::Unblock(phone) => self.unblock(&phone).await,
            Order::Download(model) => self.download(&model).await,
            Order::PauseDownload(model) => self.pause_download(&model).await,
            Order::DeleteModel(model) => self.delete_model(&model).await,
            Order::Start(model) => self.start_model(&model).await,
            Order::Stop => self.stop_model().await,
            Order::RenameConversation(id, title) => self.rename_conversation(id, title).await,
            Order::DeleteConversation(id) => self.delete_conversation(id).await,
            Order::DeleteMessage(id, message) => self.delete_message(id, message).await,
            Order::Configure(id, prompt, sampling) => self.configure(id, prompt, sampling).await,
            Order::StopAnswer(id) => {
                self.stop_answer(&id).await;
                Ok(())
            }
        }
    }

    async fn rename(&mut self, name: String) -> Result<(), Problem> {
        let kept = proto::group::Name::tidy(&name).to_string();
        let name = kept.clone();
        let named = self.history.run(move |archive| archive.set_name(&kept));
        named.await.map_err(problem)?;

        self.decided.name = name;
        self.view.renamed(&self.name());
        // Where there is no node, it is started with the name.
        let _ = self.group(proto::group::Command::Rename(self.name())).await;
        Ok(())
    }

    async fn welcome(&mut self) -> Result<(), Problem> {
        let welcomed = self.history.run(|archive| archive.set_welcomed());
        welcomed.await.map_err(problem)?;

        self.decided.welcomed = true;
        self.meet_others().await;
        Ok(())
    }

    async fn change_setting(&mut self, change: SettingChange) -> Result<(), Problem> {
        let settings = self.decided.settings.clone().with(change);
        let kept = settings.clone();
        let saved = self
            .history
            .run(move |archive| archive.save_settings(&kept));
        saved.await.map_err(problem)?;

        let before = self.connection();
        self.decided.settings = settings;
        self.instruct_node().await;
        self.limit_models();
        if self.connection() != before {
            self.resume_downloads().await;
        }
        Ok(())
    }

    /// Returns whether this phone can reach others.
    pub(super) fn network(&self) -> NetworkState {
        match &self.node {
            _ if self.lacks_network() => NetworkState::NoPermission,
            // Told to listen on this machine only, it does not look for more.
            Node::Up { .. } if self.config.listen.is_some() => NetworkState::Ok,
            Node::Up { .. } if !self.meets_others => NetworkState::Looking,
            Node::Up { .. } => self.view.network(),
            Node::Starting => NetworkState::Looking,
            Node::Down { network, .. } => network.clone(),
        }
    }

    /// Returns what helps to find out what is wrong. Nothing that anybody wrote is in it, and no name.
    pub(super) fn diagnostics(&self) -> Diagnostics {
        let mut text = String::new();
        self.write_diagnostics(&mut text)
            .expect("a string takes any text");

        Diagnostics { text }
    }

    fn write_diagnostics(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "LinguaLinked {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(
            out,
            "system: {} {} {}, {} cores",
            sysinfo::System::name().unwrap_or_default(),
            sysinfo::System::os_version().unwrap_or_default(),
            std::env::consts::ARCH,
            node::measure::n_cores(),
        )?;
        writeln!(out, "phone: {}", self.view.me())?;
        writeln!(out, "device: {:?}", self.view.device())?;
        writeln!(out, "settings: {:?}", self.decided.settings)?;
        writeln!(out, "permissions: {:?}", self.permissions)?;
        writeln!(out, "network: {:?}", self.network())?;
        for address in self.view.addresses() {
            writeln!(out, "address: {address}")?;
        }
        writeln!(out, "nearby: {}", self.view.nearby().len())?;
        self.write_group(out)?;
        writeln!(
            out,
            "conversations: {}, answers under way: {}",
            self.conversations.len(),
            self.answers.len()
        )?;
        writeln!(out, "storage: {:?}", self.models.storage())
    }

    fn write_group(&self, out: &mut String) -> std::fmt::Result {
        let board = self.view.board();
        writeln!(
            out,
            "in a group: {}, leads: {}",
            self.view.in_group(),
            self.view.leads_here()
        )?;
        for (phone, member) in &board.members {
            let standing = &member.standing;
            writeln!(
                out,
                "member {phone}: excluded {}, rtt {:?}, layers/s {:?}, {:?}, {:?}",
                member.is_excluded,
                member.rtt,
                standing.layers_per_s,
                standing.device,
                standing.preparation,
            )?;
        }

        let Some(run) = &board.run else {
            return writeln!(out, "run: none");
        };
        writeln!(
            out,
            "run: {} layers, epoch {}, {:?}, {} questions, forecast {:?}, measured {:?}",
            run.n_layers, run.epoch, run.phase, run.n_questions, run.forecast, run.measured,
        )?;
        for stage in run.stages.iter() {
            writeln!(
                out,
                "stage {}: layers {}..{}, {:?} ms a token",
                stage.phone, stage.layers.0, stage.layers.1, stage.ms_per_token,
            )?;
        }
        Ok(())
    }
}

/// Leaves as phones should: others are told, and then the node ends.
pub(super) async fn leave(handle: Arc<Handle>) {
    let leaving = async {
        handle.suspend().await;
        if let Ok(handle) = Arc::try_unwrap(handle) {
            handle.stop().await;
        }
    };

    if tokio::time::timeout(LEAVE_PATIENCE, leaving).await.is_err() {
        tracing::warn!("The node took too long to end");
    }
}
