//! Frames on a stream: one write each, and no byte read before its length was compared with its cap.
//!
//! A stream may be silent for as long as it likes, but once a frame has begun the rest must follow: half a
//! frame holds memory.

use std::future::Future;
use std::time::Duration;

use bytemuck::{cast_slice, cast_slice_mut};
use futures::{AsyncRead, AsyncReadExt};
use half::f16;
use half::slice::HalfFloatSliceExt;
use proto::plan::ActivationType;
use proto::transfer::{CHUNK_HEADER_BYTES, ChunkHeader};
use proto::wire::{
    self, ACTIVATION_HEADER_BYTES, ActivationHeader, DecodeError, LENGTH_BYTES, StreamKind,
};
use proto::{Epoch, StepId};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// How long the rest of a frame may take, however short it is. A guess: twice the worst pause seen on Wi-Fi.
const REST_TIMEOUT: Duration = Duration::from_secs(10);

/// The slowest link that is waited for, in bytes per millisecond: half a megabit per second.
const SLOWEST_BYTES_PER_MS: u64 = 64;

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
    /// A frame began and did not end in time.
    #[error("half a frame, and no more")]
    HalfSent,
    /// A stranger did not say anything for too long.
    #[error("silent for too long")]
    Silent,
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

/// Returns bytes as a frame of a join stream.
///
/// # Panics
///
/// If they are more than such a frame holds: our own messages are not.
pub fn encode_bytes(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("caps are below 4 GiB");
    assert!(bytes.len() <= StreamKind::Join.frame_bytes_max());

    [&length.to_le_bytes(), bytes].concat()
}

/// Reads one activation.
///
/// # Errors
///
/// - [`ReadError::Io`] if the stream ends
/// - [`ReadError::Decode`] if its header is not ours, or announces more than any plan allows
/// - [`ReadError::HalfSent`] if it does not end in time
pub async fn read_activation(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Activation, ReadError> {
    let bytes: [u8; ACTIVATION_HEADER_BYTES] = read_first(stream).await?;
    let header = ActivationHeader::decode(&bytes)?;
    let n_numbers = header.n_numbers as usize;

    let hidden = match header.activation {
        ActivationType::F32 => {
            let mut numbers = vec![0.0f32; n_numbers];
            read_rest(stream, cast_slice_mut(&mut numbers)).await?;
            if cfg!(target_endian = "big") {
                for x in &mut numbers {
                    *x = f32::from_bits(x.to_bits().swap_bytes());
                }
            }
            numbers
        }
        ActivationType::F16 => {
            let mut halves = vec![0u16; n_numbers];
            read_rest(stream, cast_slice_mut(&mut halves)).await?;
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

/// Reads one chunk of a shard.
///
/// # Errors
///
/// - [`ReadError::Io`] if the stream ends
/// - [`ReadError::Decode`] if its header announces more than a chunk has
/// - [`ReadError::HalfSent`] if it does not end in time
pub async fn read_chunk(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(ChunkHeader, Vec<u8>), ReadError> {
    let bytes: [u8; CHUNK_HEADER_BYTES] = read_first(stream).await?;
    let header = ChunkHeader::decode(&bytes)?;
    let mut payload = vec![0; header.n_bytes as usize];
    read_rest(stream, &mut payload).await?;

    Ok((header, payload))
}

/// Reads one control, chat or shard message.
///
/// # Errors
///
/// - [`ReadError::Io`] if the stream ends
/// - [`ReadError::Decode`] if the frame is too long, malformed, or longer than its message
/// - [`ReadError::HalfSent`] if it does not end in time
pub async fn read_message<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    kind: StreamKind,
) -> Result<T, ReadError> {
    let bytes = read_bytes(stream, kind).await?;

    Ok(wire::decode(&bytes)?)
}

/// Reads the bytes of one frame that is no activation.
///
/// # Errors
///
/// - [`ReadError::Io`] if the stream ends
/// - [`ReadError::Decode`] if the frame is too long
/// - [`ReadError::HalfSent`] if it does not end in time
pub async fn read_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    kind: StreamKind,
) -> Result<Vec<u8>, ReadError> {
    let length: [u8; LENGTH_BYTES] = read_first(stream).await?;
    let length = wire::decode_length(length, kind)?;
    let mut bytes = vec![0; length];
    read_rest(stream, &mut bytes).await?;

    Ok(bytes)
}

/// Reads what a frame begins with: waits for its first byte as long as it takes, for the others not.
async fn read_first<const N: usize>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<[u8; N], ReadError> {
    let mut bytes = [0; N];
    let n = stream.read(&mut bytes).await?;
    if n == 0 {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    if n < N {
        read_rest(stream, &mut bytes[n..]).await?;
    }

    Ok(bytes)
}

async fn read_rest(
    stream: &mut (impl AsyncRead + Unpin),
    rest: &mut [u8],
) -> Result<(), ReadError> {
    let patience = REST_TIMEOUT + Duration::from_millis(rest.len() as u64 / SLOWEST_BYTES_PER_MS);

    within(patience, stream.read_exact(rest)).await
}

async fn within(
    patience: Duration,
    read: impl Future<Output = std::io::Result<()>>,
) -> Result<(), ReadError> {
    match timeout(patience, read).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(ReadError::HalfSent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_activation_survives_the_wire_to_the_bit() {
        let hidden = [0.1, -1.0e-30, f32::MAX, 0.0];

        let frame = encode_activation(Epoch(3), StepId(9), &hidden, ActivationType::F32);
        let read = read_activation(&mut frame.as_slice())
            .await
            .expect("our own frame");

        assert_eq!((read.epoch, read.step), (Epoch(3), StepId(9)));
        assert_eq!(read.hidden, hidden);
    }

    #[tokio::test]
    async fn half_precision_halves_the_bytes() {
        let hidden = [0.5, -2.0, 0.333_333_34];

        let frame = encode_activation(Epoch(0), StepId(0), &hidden, ActivationType::F16);
        let read = read_activation(&mut frame.as_slice())
            .await
            .expect("our own frame");

        assert_eq!(frame.len(), ACTIVATION_HEADER_BYTES + 6);
        assert_eq!(read.hidden[..2], hidden[..2]);
        assert!((read.hidden[2] - hidden[2]).abs() < 1e-3);
    }

    #[tokio::test]
    async fn a_frame_that_announces_too_much_is_refused_before_it_is_read() {
        let bytes = u32::MAX.to_le_bytes();

        let error = read_message::<u8>(&mut bytes.as_slice(), StreamKind::Chat).await;

        assert!(matches!(
            error,
            Err(ReadError::Decode(DecodeError::TooLong { .. }))
        ));
    }

    #[tokio::test]
    async fn half_a_frame_is_not_waited_for() {
        let never = std::future::pending();

        let read = within(Duration::from_millis(20), never).await;

        assert!(matches!(read, Err(ReadError::HalfSent)));
    }

    #[tokio::test]
    async fn what_ends_in_the_middle_of_a_frame_is_no_frame() {
        for cut in [[8, 0, 0].as_slice(), &[8, 0, 0, 0, 1]] {
            let read = read_bytes(&mut &*cut, StreamKind::Join).await;

            assert!(matches!(read, Err(ReadError::Io(_))));
        }
    }
}
