//! Everything that people read goes through here: what other phones and the model write cannot move the cursor, clear
//! the screen, or turn a sentence round.
//!
//! On a terminal a line that comes while somebody types is put above what is typed ([`Screen`]).

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use proto::text::is_shown;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Editor, ExternalPrinter};
use tokio::sync::mpsc;

/// What stands before what a person types.
const PROMPT: &str = "> ";

/// Returns text as it may be shown: without control characters, but for the ends of lines and tabs, and without those
/// that turn the direction of text.
pub fn clean(text: &str) -> String {
    let shown = |c: &char| matches!(c, '\n' | '\t') || is_shown(*c);

    text.chars().filter(shown).collect()
}

/// Writes a line to standard output.
///
/// # Errors
///
/// If nobody reads it any more.
pub fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{}", clean(line))
}

/// Writes a piece of an answer to standard output at once.
///
/// # Errors
///
/// If nobody reads it any more.
pub fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(clean(text).as_bytes())?;

    out.flush()
}

/// Writes a line to standard error.
pub fn complain(line: &str) {
    eprintln!("{}", clean(line));
}

/// Returns whether a person sits at both ends of this program.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// What was read from a person at a terminal.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C, with nothing being answered.
    Interrupt,
    /// Ctrl-D.
    End,
}

/// Shows lines above what a person types.
pub struct Screen {
    printer: Box<dyn ExternalPrinter + Send>,
    /// Puts the terminal back, however the program ends: the editor may be in the middle of a line then.
    _as_before: Settings,
}

impl Screen {
    /// Begins to read lines, each when `turns` says so, and calls `heard` with them, on a thread of their own.
    ///
    /// # Errors
    ///
    /// If the terminal cannot be used.
    pub fn start(
        mut turns: mpsc::Receiver<()>,
        mut heard: impl FnMut(Typed) + Send + 'static,
    ) -> Result<Self> {
        let as_before = Settings::of_terminal()?;
        let mut editor = Editor::<(), DefaultHistory>::new().context("cannot use the terminal")?;
        let printer = editor.create_external_printer();
        let printer = printer.context("cannot write to the terminal")?;

        std::thread::spawn(move || {
            while turns.blocking_recv().is_some() {
                heard(match editor.readline(PROMPT) {
                    Ok(line) => {
                        let _ = editor.add_history_entry(&line); // a line too many is not kept
                        Typed::Line(line)
                    }
                    Err(ReadlineError::Interrupted) => Typed::Interrupt,
                    Err(ReadlineError::Eof) => Typed::End,
                    Err(error) => {
                        tracing::error!(%error, "The terminal cannot be read any more");
                        Typed::End
                    }
                });
            }
        });
        Ok(Self {
            printer: Box::new(printer),
            _as_before: as_before,
        })
    }

    /// Shows a line.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn show(&mut self, line: &str) -> Result<()> {
        self.show_raw(&clean(line))
    }

    /// Shows lines of our own making, colours and all.
    ///
    /// # Errors
    ///
    /// If the terminal is gone.
    pub fn show_raw(&mut self, lines: &str) -> Result<()> {
        let shown = self.printer.print(format!("{lines}\n"));

        shown.context("cannot write to the terminal")
    }
}

/// How a terminal was set when the program began.
struct Settings {
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

impl Settings {
    #[cfg(unix)]
    fn of_terminal() -> Result<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin());

        Ok(Self {
            before: before.context("cannot use the terminal")?,
        })
    }

    #[cfg(not(unix))]
    fn of_terminal() -> Result<Self> {
        Ok(Self {})
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        #[cfg(unix)]
        {
            use rustix::termios::{OptionalActions, tcsetattr};
            // The terminal may be gone.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_can_rewrite_the_screen() {
        let hostile = "Ben\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{202e}neB\u{9b}31m\u{8}";

        assert_eq!(clean(hostile), "Ben[2J]0;ownedneB31m");
    }

    #[test]
    fn text_stays_as_it_is() {
        let text = "Zwölf 👩\u{200d}🌾 לחם\n\tfine\n";

        assert_eq!(clean(text), text);
    }
}
