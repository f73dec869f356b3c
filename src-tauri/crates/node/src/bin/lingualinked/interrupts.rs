//! Ctrl-C, heard from the start of the program on.
//!
//! One that comes while nobody waits for it is kept until somebody does: else it would be lost between two
//! waits, or end the program before what it has started.

use std::io;

/// Whether Ctrl-C was pressed.
#[derive(Debug)]
pub struct Interrupts {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
    #[cfg(windows)]
    signal: tokio::signal::windows::CtrlC,
}

impl Interrupts {
    /// Listens from now on: the program does not end by itself any more.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        #[cfg(windows)]
        let signal = tokio::signal::windows::ctrl_c()?;

        Ok(Self { signal })
    }

    /// Returns when Ctrl-C is pressed, or has been since the last time.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) {
        let _ = self.signal.recv().await; // it never ends
    }
}
