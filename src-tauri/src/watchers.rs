//! Streams to the window, until it wants no more of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tauri::async_runtime::{JoinHandle, spawn};
use tauri::ipc::{Channel, IpcResponse};
use tokio::sync::{mpsc, watch};

use crate::api::AppState;

/// Streams under way.
#[derive(Debug, Default)]
pub struct Watchers(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    last_id: u32,
    tasks: BTreeMap<u32, JoinHandle<()>>,
}

impl Watchers {
    /// Hands the state on, now and whenever it changes. Returns the stream's id.
    pub fn state(
        &self,
        mut state: watch::Receiver<Arc<AppState>>,
        listener: Channel<AppState>,
    ) -> u32 {
        self.begin(spawn(async move {
            state.mark_changed();
            while state.changed().await.is_ok() {
                let shown = state.borrow_and_update().as_ref().clone();
                if listener.send(shown).is_err() {
                    return;
                }
            }
        }))
    }

    /// Hands on what happens, until that ends. Returns the stream's id.
    pub fn stream<T>(&self, mut events: mpsc::UnboundedReceiver<T>, listener: Channel<T>) -> u32
    where
        T: IpcResponse + Serialize + Send + 'static,
    {
        self.begin(spawn(async move {
            while let Some(event) = events.recv().await {
                if listener.send(event).is_err() {
                    return;
                }
            }
        }))
    }

    /// Ends a stream.
    pub fn end(&self, id: u32) {
        if let Some(task) = self.lock().tasks.remove(&id) {
            task.abort();
        }
    }

    /// Ends all: the window shows another page.
    pub fn end_all(&self) {
        for task in std::mem::take(&mut self.lock().tasks).into_values() {
            task.abort();
        }
    }

    fn begin(&self, task: JoinHandle<()>) -> u32 {
        let mut running = self.lock();
        running.tasks.retain(|_, task| !task.inner().is_finished());
        running.last_id = running.last_id.wrapping_add(1);
        let id = running.last_id;
        running.tasks.insert(id, task);

        id
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        // A table of tasks is whole after a panic, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
