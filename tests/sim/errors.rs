//! An ERROR log fails the simulation.

use std::cell::Cell;
use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber, span};

thread_local! {
    static FIRST: Cell<Option<String>> = const { Cell::new(None) };
}

/// While this lives, ERROR logs of this thread are caught.
pub struct Errors {
    _guard: DefaultGuard,
}

/// Catches logs of this level and worse.
struct Catcher(Level);

impl Errors {
    /// Begins to listen on this thread.
    pub fn listen() -> Self {
        Self::listen_at(Level::ERROR)
    }

    /// Begins to listen for logs of `level` and worse, where nothing odd should happen.
    pub fn listen_at(level: Level) -> Self {
        FIRST.set(None);
        Self {
            _guard: tracing::subscriber::set_default(Catcher(level)),
        }
    }

    /// Returns the first log that was caught since the last call.
    pub fn take(&self) -> Option<String> {
        FIRST.take()
    }
}

impl Subscriber for Catcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.0))
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{}:", event.metadata().target()));
        event.record(&mut line);
        let first = FIRST.take();
        FIRST.set(first.or(Some(line.0)));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").expect("a string takes anything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_error_logs_are_caught() {
        let errors = Errors::listen();

        tracing::warn!("odd");
        assert_eq!(errors.take(), None);
        tracing::error!(phone = 3, "broken");
        assert!(
            errors
                .take()
                .expect("an error was logged")
                .contains("broken")
        );
    }
}
