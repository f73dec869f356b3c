//! Hears what the machines log, so that an error in the log fails a run.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// Lines kept of one run; the first ones tell what went wrong.
const LINES_MAX: usize = 100;

/// What was logged at `warn` and above.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    /// Lines at `error`: something is broken.
    pub errors: Vec<String>,
    /// Lines at `warn`: odd, but carried on.
    pub warnings: Vec<String>,
}

/// Runs `act` on this thread and returns its result with what it logged.
pub fn listen<T>(act: impl FnOnce() -> T) -> (T, Heard) {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let witness = Witness(Arc::clone(&heard)).with_filter(LevelFilter::WARN);

    let result = tracing::subscriber::with_default(Registry::default().with(witness), act);
    let heard = heard.lock().expect("no panic while it was held").clone();

    (result, heard)
}

struct Witness(Arc<Mutex<Heard>>);

impl<S: Subscriber> Layer<S> for Witness {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut heard = self.0.lock().expect("no panic while it was held");
        let lines = if *event.metadata().level() == Level::ERROR {
            &mut heard.errors
        } else {
            &mut heard.warnings
        };

        if lines.len() < LINES_MAX {
            let mut line = Line(String::new());
            event.record(&mut line);
            lines.push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").expect("a string takes everything");
    }
}
