//! Frames on a stream: one write each, and no byte read before its length was compared with its cap.

use bytemuck::{cast_slice, cast_slice_mut};
use futures::{AsyncRead, AsyncReadExt};
use half::f16;
use half::slice::HalfFloatSliceExt;
use proto::plan::ActivationType;
use proto::wire::{
    self, ACTIVATION_HEADER_BYTES, ActivationHeader, DecodeError, LENGTH_BYTES, StreamKind,
};
use proto::{Epoch, StepId};
use serde::de::DeserializeOwned;

/// A hidden state: `[n_rows, n_embd]`, row-major.
pub type Hidden = Vec<f32>;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection is gone, or its other side has closed the stream.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What came is no frame of ours.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// An activation as it came.
#[derive(Debug)]
pub struct Activation {
    /// Plan that it belongs to.
    pub epoch: Epoch,
    /// Step that it belongs to.
    pub step: StepId,
    /// The hidden state.
    pub hidden: Hidden,
}

/// Returns an activation as a frame.
pub fn encode_activation(
    epoch: Epoch,
    step: StepId,
    hidden: &[f32],
    activation: ActivationType,
) -> Vec<u8> {
    let header = ActivationHeader {
        epoch,
        step,
        n_numbers: u32::try_from(hidden.len()).expect("a step has a bounded number of rows"),
        activation,
    };
    let length = ACTIVATION_HEADER_BYTES + hidden.len() * activation.bytes();
    let mut frame = Vec::with_capacity(length);
    frame.extend_from_slice(&header.encode());

    match activation {
        ActivationType::F32 if cfg!(target_endian = "little") => {
            frame.extend_from_slice(cast_slice(hidden));
        }
        ActivationType::F32 => hidden
            .iter()
            .for_each(|x| frame.extend_from_slice(&x.to_le_bytes())),
        ActivationType::F16 => {
            let mut halves = vec![f16::ZERO; hidden.len()];
            halves.convert_from_f32_slice(hidden);
            halves
                .iter()
                .for_each(|x| frame.extend_from_slice(&x.to_le_bytes()));
        }
    }

    frame
}

/// Reads one activation.
///
/// # Errors
///
/// - [`ReadError::Io`] if the stream ends
/// - [`ReadError::Decode`] if its header is not ours, or announces more than any plan allows
pub async fn read_activation(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Activation, ReadError> {
    let mut bytes = [0; ACTIVATION_HEADER_BYTES];
    stream.read_exact(&mut bytes).await?;
    let header = ActivationHeader::decode(&bytes)?;
    let n_numbers = header.n_numbers as usize;

    let hidden = match header.activation {
        ActivationType::F32 => {
            let mut numbers = vec![0.0f32; n_numbers];
            stream.read_exact(cast_slice_mut(&mut numbers)).await?;
            if cfg!(target_endian = "big") {
                for x in &mut numbers {
                    *x = f32::from_bits(x.to_bits().swap_bytes());
                }
            }
            numbers
        }
        ActivationType::F16 => {
            let mut halves = vec![0u16; n_numbers];
            stream.read_exact(cast_slice_mut(&mut halves)).await?;
            let halves = halves.iter().map(|x| f16::from_bits(u16::from_le(*x)));
            let mut numbers = vec![0.0f32; n_numbers];
            halves
                .collect::<Vec<_>>()
                .convert_to_f32_slice(&mut numbers);
            numbers
        }
    };

    Ok(Activation {
        epoch: header.epoch,
        step: header.step,
        hidden,
    })
}

/// Reads one control or chat message.
///
/// # Errors
///
/// - [`ReadError::Io`] if the stream ends
/// - [`ReadError::Decode`] if the frame is too long, malformed, or longer than its message
pub async fn read_message<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    kind: StreamKind,
) -> Result<T, ReadError> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).await?;
    let length = wire::decode_length(length, kind)?;
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;

    Ok(wire::decode(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    #[test]
    fn an_activation_survives_the_wire_to_the_bit() {
        let hidden = [0.1, -1.0e-30, f32::MAX, 0.0];

        let frame = encode_activation(Epoch(3), StepId(9), &hidden, ActivationType::F32);
        let read = block_on(read_activation(&mut frame.as_slice())).expect("our own frame");

        assert_eq!((read.epoch, read.step), (Epoch(3), StepId(9)));
        assert_eq!(read.hidden, hidden);
    }

    #[test]
    fn half_precision_halves_the_bytes() {
        let hidden = [0.5, -2.0, 0.333_333_34];

        let frame = encode_activation(Epoch(0), StepId(0), &hidden, ActivationType::F16);
        let read = block_on(read_activation(&mut frame.as_slice())).expect("our own frame");

        assert_eq!(frame.len(), ACTIVATION_HEADER_BYTES + 6);
        assert_eq!(read.hidden[..2], hidden[..2]);
        assert!((read.hidden[2] - hidden[2]).abs() < 1e-3);
    }

    #[test]
    fn a_frame_that_announces_too_much_is_refused_before_it_is_read() {
        let bytes = u32::MAX.to_le_bytes();

        let error = block_on(read_message::<u8>(&mut bytes.as_slice(), StreamKind::Chat));

        assert!(matches!(
            error,
            Err(ReadError::Decode(DecodeError::TooLong { .. }))
        ));
    }
}
