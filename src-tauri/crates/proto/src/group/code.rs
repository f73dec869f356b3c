//! The matching code: six digits by which two people see that nobody stands between their phones.
//!
//! Every connection is encrypted to *some* key. What a person cannot see is whose: a phone in the
//! middle can call itself "Sam" and talk to both. So both screens show a code that follows from
//! both keys; with a phone in the middle there are two pairs of keys, and two codes.
//!
//! ```text
//!  asker                                     asked
//!    │  Knock   commit = H(nonce_a, keys)      │     the asker is bound to a nonce …
//!    ├────────────────────────────────────────►│
//!    │  Answer  nonce_b                        │     … before it sees the other one
//!    │◄────────────────────────────────────────┤
//!    │  Reveal  nonce_a                        │     checked against the commit
//!    ├────────────────────────────────────────►│
//!    │        code = H(keys, nonce_a, nonce_b) mod 10⁶
//! ```
//!
//! **Why nonces and a commitment.** Six digits are 20 bits. If the code followed from the keys
//! alone, a phone in the middle would make keys until both codes agree: a million tries, a second's
//! work. With fresh nonces from both sides it would choose its nonce last, and try as many. The
//! commitment takes that away: whoever asks is bound before the other's nonce exists, and whoever
//! is asked must show its nonce while the asker's is still hidden. Each side therefore adds 128
//! bits of luck that the other could not know when it chose, both codes are independent and
//! uniform, and the phone in the middle has one chance in a million per attempt.
//!
//! **Attempts.** Who knocks can compute the code before it opens its commit, and stay silent if it
//! does not like it: nobody would see that attempt. Such knocks are counted over all phones together
//! (`limits.rs`, `UNOPENED`): six in the two minutes for which a code stands on a screen. Knocking
//! at both sides at once makes that 6 × 6 pairs, one chance in 28,000, for an attacker who needs
//! both people to say yes to a phone that neither has tapped. A different commit from a phone that
//! is already asking is refused, and a refusal mutes it.

use std::fmt;

use rand::RngCore;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use crate::PeerId;

/// How many codes there are: six digits, as many as people compare without a mistake (Bluetooth's
/// numeric comparison has the same).
const CODES: u64 = 1_000_000;

const COMMIT_CONTEXT: &str = "lingualinked 2025 matching code: commitment to the asker's nonce";
const CODE_CONTEXT: &str = "lingualinked 2025 matching code: six digits";

/// Luck that one side adds to one code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce([u8; 16]);

/// A nonce under seal: it binds the asker without showing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit([u8; 32]);

/// What both screens show. Prints as `042 917`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(u32);

impl Nonce {
    /// Draws a nonce.
    pub fn draw(rng: &mut ChaCha12Rng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl Commit {
    /// Seals the asker's `nonce` for this pair of phones.
    pub fn seal(nonce: Nonce, asker: PeerId, asked: PeerId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(COMMIT_CONTEXT);
        hasher.update(&nonce.0).update(&asker.0).update(&asked.0);
        Self(*hasher.finalize().as_bytes())
    }

    /// Returns whether `nonce` is the one that was sealed.
    pub fn opens_with(&self, nonce: Nonce, asker: PeerId, asked: PeerId) -> bool {
        *self == Self::seal(nonce, asker, asked)
    }
}

impl Code {
    /// Computes what both screens show.
    pub fn of(asker: PeerId, asked: PeerId, askers: Nonce, askeds: Nonce) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CODE_CONTEXT);
        hasher.update(&asker.0).update(&asked.0);
        hasher.update(&askers.0).update(&askeds.0);
        let hash = hasher.finalize();

        let first: [u8; 8] = hash.as_bytes()[..8].try_into().expect("eight bytes");
        let digits = u64::from_le_bytes(first) % CODES; // 2⁶⁴ mod 10⁶ is a bias of 10⁻¹³
        Self(u32::try_from(digits).expect("below a million"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const ANNA: PeerId = PeerId([0xaa; 32]);
    const BELA: PeerId = PeerId([0xbb; 32]);
    const MALLORY: PeerId = PeerId([0xee; 32]);

    #[test]
    fn a_phone_in_the_middle_shows_two_codes() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let [anna, bela, m1, m2] = std::array::from_fn(|_| Nonce::draw(&mut rng));

        let at_anna = Code::of(ANNA, MALLORY, anna, m1);
        let at_bela = Code::of(MALLORY, BELA, m2, bela);

        assert_ne!(at_anna, at_bela);
    }

    #[test]
    fn a_commit_opens_with_its_own_nonce_and_for_its_own_pair_only() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let (nonce, other) = (Nonce::draw(&mut rng), Nonce::draw(&mut rng));
        let commit = Commit::seal(nonce, ANNA, BELA);

        assert!(commit.opens_with(nonce, ANNA, BELA));
        assert!(!commit.opens_with(other, ANNA, BELA));
        assert!(!commit.opens_with(nonce, ANNA, MALLORY));
    }

    #[test]
    fn a_code_prints_as_two_groups_of_three() {
        assert_eq!(Code(42_917).to_string(), "042 917");
    }
}
