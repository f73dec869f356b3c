//! Phones as screens name them, as libp2p does, and models, by their hash in hexadecimal.

use data_encoding::HEXLOWER;
use node::identity;
use proto::PeerId;

use crate::api::{ModelId, PhoneId, Problem};

/// Returns a phone as screens name it.
pub fn phone_id(phone: PeerId) -> PhoneId {
    let text = identity::libp2p_peer(phone);

    PhoneId(text.map_or_else(|| phone.to_string(), |peer| peer.to_string()))
}

/// Returns the phone that a screen names.
///
/// # Errors
///
/// If it names none.
pub fn peer_of(phone: &PhoneId) -> Result<PeerId, Problem> {
    let peer = phone.0.parse::<libp2p::PeerId>().ok();

    peer.as_ref()
        .and_then(identity::peer_id)
        .ok_or_else(|| Problem::other("this phone is not known"))
}

/// Returns a model as screens name it.
pub fn model_id(model: proto::ModelId) -> ModelId {
    ModelId(HEXLOWER.encode(&model.0))
}

/// Returns the model that a screen names.
///
/// # Errors
///
/// If it names none.
pub fn model_of(model: &ModelId) -> Result<proto::ModelId, Problem> {
    let hash = HEXLOWER.decode(model.0.as_bytes()).ok();
    let hash = hash.and_then(|hash| <[u8; 32]>::try_from(hash).ok());

    hash.map(proto::ModelId).ok_or(Problem::NoModel)
}
