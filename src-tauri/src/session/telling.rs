//! Telling the system what the app does: one thing after the other, and again before the system forgets it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::platform::Doing;

/// How often the system is told again while the app is busy: twice before Android's lock on the processor lapses, which
/// lasts for 10 minutes (`PROCESSOR_MS`).
const AGAIN: Duration = Duration::from_secs(240);

/// Tells what the app does whenever that changes, until nobody says so any more. What changed again meanwhile is left out.
pub async fn keep_telling(
    mut doing: watch::Receiver<Doing>,
    tell: impl Fn(Doing) + Send + Sync + 'static,
) {
    let tell = Arc::new(tell);

    while next(&mut doing).await {
        let (tell, now) = (Arc::clone(&tell), *doing.borrow_and_update());
        let told = tokio::task::spawn_blocking(move || tell(now)).await;
        if told.is_err() {
            tracing::error!("The system was not told what the app does");
        }
    }
}

/// Waits until there is something to tell. Returns whether there ever will be.
async fn next(doing: &mut watch::Receiver<Doing>) -> bool {
    let is_busy = doing.borrow().is_busy();

    tokio::select! {
        changed = doing.changed() => changed.is_ok(),
        () = tokio::time::sleep(AGAIN), if is_busy => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// The system takes its time, and must not believe in the end what is no longer so.
    #[tokio::test]
    async fn the_last_thing_told_is_what_is_so() {
        let (sender, receiver) = watch::channel(Doing::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let telling = tokio::spawn(keep_telling(receiver, move |doing: Doing| {
            std::thread::sleep(Duration::from_millis(u64::from(40 / (doing.n_phones + 1))));
            heard
                .lock()
                .expect("nobody panics with it")
                .push(doing.n_phones);
        }));

        for n_phones in 0..10 {
            sender.send_modify(|doing| doing.n_phones = n_phones);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Nothing new, and told all the same.
        tokio::time::sleep(Duration::from_millis(100)).await;
        sender.send_modify(|_| {});
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(sender);
        telling.await.expect("it ends");

        let told = told.lock().expect("nobody panics with it");
        assert!(told.is_sorted(), "{told:?}");
        assert!(told.ends_with(&[9, 9]), "{told:?}");
    }
}
