//! Who hears what must not be missed.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

/// Streams of things that happen once. Each is a queue that never blocks who tells: who listens hands on at once.
#[derive(Debug)]
pub struct Listeners<T>(Arc<Mutex<Vec<mpsc::UnboundedSender<T>>>>);

impl<T: Clone> Listeners<T> {
    /// Returns a stream of what happens from now on.
    pub fn join(&self) -> mpsc::UnboundedReceiver<T> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().push(sender);

        receiver
    }

    /// Tells everybody who still listens.
    pub fn tell(&self, what: &T) {
        self.lock()
            .retain(|listener| listener.send(what.clone()).is_ok());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::UnboundedSender<T>>> {
        // A list of channels is whole after a panic, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Listeners<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Listeners<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
