//! What chunks pass on their way out: open, or only as many bytes as are allowed.
//!
//! Whoever decides how fast chunks go says it as a [`Throttle`]; writers wait here, in the order in which they came.

use std::sync::{Arc, Mutex, PoisonError};

use proto::transfer::{PIECE_BYTES, Throttle};
use tokio::sync::Notify;

/// Bytes that may be allowed and not used, when writers are slower than what is allowed: two pieces. What is more would
/// go out as a burst.
const UNUSED_MAX: u32 = 2 * PIECE_BYTES;

/// A gate that all writers of chunks share.
#[derive(Debug, Default, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Bytes that may pass; `None` while it is open.
    allowed: Mutex<Option<u32>>,
    changed: Notify,
}

impl Gate {
    /// Opens it, closes it, or lets some more bytes pass.
    pub fn set(&self, throttle: Throttle) {
        let mut allowed = self
            .0
            .allowed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *allowed = match (throttle, *allowed) {
            (Throttle::Open, _) => None,
            (Throttle::Held, _) => Some(0),
            (Throttle::Allow(_), None) => None,
            (Throttle::Allow(bytes), Some(before)) => {
                Some(before.saturating_add(bytes).min(UNUSED_MAX))
            }
        };
        drop(allowed);

        self.0.changed.notify_waiters();
    }

    /// Waits until so many bytes may pass; at most [`PIECE_BYTES`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is used up if the future is dropped.
    pub async fn pass(&self, n_bytes: u32) {
        loop {
            let changed = self.0.changed.notified(); // before it is looked at, or a change could be missed
            if self.take(n_bytes) {
                return;
            }
            changed.await;
        }
    }

    fn take(&self, n_bytes: u32) -> bool {
        let mut allowed = self
            .0
            .allowed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);

        match &mut *allowed {
            None => true,
            Some(left) if *left >= n_bytes => {
                *left -= n_bytes;
                true
            }
            Some(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn only_what_is_allowed_passes_until_it_opens() {
        let gate = Gate::default();
        let passes = async |gate: &Gate| {
            let pass = gate.pass(PIECE_BYTES);
            timeout(Duration::from_millis(20), pass).await.is_ok()
        };
        assert!(passes(&gate).await);

        gate.set(Throttle::Held);
        assert!(!passes(&gate).await);
        gate.set(Throttle::Allow(PIECE_BYTES));
        assert!(passes(&gate).await);
        assert!(!passes(&gate).await);

        gate.set(Throttle::Open);
        assert!(passes(&gate).await);
    }

    /// What nobody used does not go out at once later.
    #[tokio::test]
    async fn what_is_allowed_does_not_pile_up() {
        let gate = Gate::default();
        gate.set(Throttle::Held);
        for _ in 0..100 {
            gate.set(Throttle::Allow(PIECE_BYTES));
        }

        let passed = (0..100).filter(|_| gate.take(PIECE_BYTES)).count();

        assert_eq!(passed, 2);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let gate = Gate::default();
        gate.set(Throttle::Held);
        let waiting = {
            let gate = gate.clone();
            tokio::spawn(async move { gate.pass(PIECE_BYTES).await })
        };
        tokio::task::yield_now().await;

        gate.set(Throttle::Allow(PIECE_BYTES));

        let woken = timeout(Duration::from_secs(5), waiting).await;
        woken.expect("it is woken").expect("it does not panic");
    }
}
