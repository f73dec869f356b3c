//! Who hears what must not be missed.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

/// Streams of things that happen once. Each is a queue that never blocks who tells: who listens hands on at once.
#[derive(Debug)]
pub struct Listeners<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    streams: Vec<mpsc::UnboundedSender<T>>,
    /// What the first to join is told at once.
    kept: Vec<T>,
}

impl<T: Clone> Listeners<T> {
    /// Begins with nobody who listens, and something that the first to join is told at once: it happens before there is
    /// a screen.
    pub fn with(kept: Vec<T>) -> Self {
        let streams = Vec::new();

        Self(Arc::new(Mutex::new(Inner { streams, kept })))
    }

    /// Returns a stream of what happens from now on.
    pub fn join(&self) -> mpsc::UnboundedReceiver<T> {
        self.join_after(Vec::new())
    }

    /// Returns a stream of what has happened, as far as it is told here, and of what happens from now on.
    pub fn join_after(&self, happened: Vec<T>) -> mpsc::UnboundedReceiver<T> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        for what in inner.kept.drain(..).chain(happened) {
            let _ = sender.send(what); // the receiver is here
        }
        inner.streams.push(sender);

        receiver
    }

    /// Tells everybody who still listens.
    pub fn tell(&self, what: &T) {
        self.lock()
            .streams
            .retain(|listener| listener.send(what.clone()).is_ok());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<T>> {
        // A list of channels is whole after a panic, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Default for Listeners<T> {
    fn default() -> Self {
        Self::with(Vec::new())
    }
}

impl<T> Clone for Listeners<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
