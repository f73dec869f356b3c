//! Who may open which streams, as every connection sees it.

use std::collections::BTreeSet;

use libp2p::PeerId;
use proto::wire::StreamKind;
use tokio::sync::watch;

/// Streams that any phone may open.
const STRANGERS: &[StreamKind] = &[StreamKind::Join];

/// Streams that members may open: all.
const MEMBERS: &[StreamKind] = &[
    StreamKind::Join,
    StreamKind::Control,
    StreamKind::Activation,
    StreamKind::Chat,
    StreamKind::Shard,
    StreamKind::Chunk,
];

/// The phones that are let in, changed in one place.
#[derive(Debug)]
pub struct Members(watch::Sender<BTreeSet<PeerId>>);

/// The same, for those who only look.
#[derive(Debug, Clone)]
pub struct MembersView(watch::Receiver<BTreeSet<PeerId>>);

impl Members {
    /// Lets nobody in.
    pub fn new() -> Self {
        Self(watch::Sender::new(BTreeSet::new()))
    }

    /// Lets in these, and nobody else.
    pub fn set(&self, members: BTreeSet<PeerId>) {
        self.0.send_replace(members);
    }

    /// Returns whether a phone is let in.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.0.borrow().contains(peer)
    }

    /// Returns what connections look at.
    pub fn view(&self) -> MembersView {
        MembersView(self.0.subscribe())
    }
}

impl MembersView {
    /// Returns whether a phone is let in.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.0.borrow().contains(peer)
    }

    /// Returns the kinds of streams that a phone may open.
    pub fn kinds_open_to(&self, peer: &PeerId) -> &'static [StreamKind] {
        if self.contains(peer) {
            MEMBERS
        } else {
            STRANGERS
        }
    }
}
