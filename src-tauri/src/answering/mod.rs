//! Answers: what is asked of the model, and what a screen hears of what it writes.

mod parts;
mod prompt;
mod writing;

pub use prompt::ask_of;
pub use writing::{Ended, Writing, figures_of, problem_of_failure, problem_of_refusal};
