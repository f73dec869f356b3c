//! Asking a phone of a group without taking part in the work.

use std::sync::Arc;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use proto::PeerId;
use proto::chat::{Answer, Ask};
use proto::wire::Chat;

use crate::net::{Net, NetError, NetEvent, split_peer};

/// A connection to one phone.
pub struct Guest {
    net: Net,
    phone: PeerId,
    n_asked: u64,
}

/// Why a phone could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The network could not be started, or the address is none.
    #[error(transparent)]
    Net(#[from] NetError),
    /// There is no phone, or not any more.
    #[error("cannot reach the phone: {reason}")]
    Unreachable {
        /// What the network said.
        reason: String,
    },
}

impl Guest {
    /// Gets ready to ask the phone at `address`, which ends in `/p2p/PEER`.
    ///
    /// # Errors
    ///
    /// [`GuestError::Net`] if the address names no phone.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(address: Multiaddr) -> Result<Self, GuestError> {
        let (phone, address) = split_peer(address)?;
        let mut net = Net::new(Keypair::generate_ed25519())?;
        net.connect(phone, vec![address]);

        Ok(Self {
            net,
            phone,
            n_asked: 0,
        })
    }

    /// Asks, and hands every word of the answer to `hear`, the last one included.
    ///
    /// # Errors
    ///
    /// [`GuestError::Unreachable`] if the phone cannot be reached, or is lost before the answer ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection with the guest, and the phone then stops the answer.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a guest listens to one phone's answers only"
    )]
    pub async fn ask(&mut self, ask: Ask, mut hear: impl FnMut(Answer)) -> Result<(), GuestError> {
        let asked = self.n_asked;
        self.n_asked += 1;
        let message = Chat::Ask {
            number: asked,
            ask: Arc::new(ask),
        };
        self.net.send_chat(self.phone, &message);

        loop {
            match self.net.next().await {
                NetEvent::Chat {
                    from,
                    message: Chat::Answer { number, answer },
                } if from == self.phone && number == asked => {
                    let is_last = answer.is_last();
                    hear(answer);
                    if is_last {
                        return Ok(());
                    }
                }
                NetEvent::Lost { phone, reason } if phone == self.phone => {
                    return Err(GuestError::Unreachable { reason });
                }
                _ => {}
            }
        }
    }
}
