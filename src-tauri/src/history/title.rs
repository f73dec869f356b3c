//! A conversation's title, made of its first question.

use rusqlite::{Connection, OptionalExtension, params};
use unicode_segmentation::UnicodeSegmentation;

use super::HistoryError;

/// Letters of a title that is made: what a phone shows on one or two lines.
const LETTERS_MAX: usize = 60;

/// How many letters may be given up so that a title ends with a word.
const WORD_LETTERS: usize = 20;

/// Gives a conversation a title if it has none.
pub(super) fn give(
    connection: &Connection,
    conversation: i64,
    question: &str,
) -> Result<(), HistoryError> {
    connection.execute(
        "UPDATE conversation SET title = ?2 WHERE seq = ?1 AND title = ''",
        params![conversation, made_of(question)],
    )?;
    Ok(())
}

/// Takes back the title that the first question made, if that question is about to be dropped.
pub(super) fn forget(
    connection: &Connection,
    conversation: i64,
    dropped_from: i64,
) -> Result<(), HistoryError> {
    let first: Option<(i64, String)> = connection
        .query_one(
            "SELECT seq, text FROM message WHERE conversation = ?1 AND kind = 'question' ORDER BY seq LIMIT 1",
            [conversation],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    if let Some((seq, question)) = first
        && seq >= dropped_from
    {
        connection.execute(
            "UPDATE conversation SET title = '' WHERE seq = ?1 AND title = ?2",
            params![conversation, made_of(&question)],
        )?;
    }
    Ok(())
}

/// Returns a title: the first line that says something, without marks of Markdown at its beginning, and cut at a word.
fn made_of(question: &str) -> String {
    let line = question
        .lines()
        .map(tidy)
        .find(|line| line.chars().any(char::is_alphanumeric))
        .unwrap_or_else(|| tidy(question));

    let letters: Vec<&str> = line.graphemes(true).take(LETTERS_MAX + 1).collect();
    if letters.len() <= LETTERS_MAX {
        return line;
    }
    // Where nothing separates words, as in Chinese, it is cut anywhere.
    let end = (LETTERS_MAX - WORD_LETTERS..LETTERS_MAX)
        .rev()
        .find(|&i| letters[i] == " ")
        .unwrap_or(LETTERS_MAX - 1);
    let cut = letters[..end].concat();
    format!(
        "{}…",
        cut.trim_end_matches(|c: char| c.is_whitespace() || ",;:.-–—".contains(c))
    )
}

/// On one line, with single spaces, and without what is not seen.
fn tidy(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|&c| !turns_text(c))
        .collect();
    let words: Vec<&str> = shown.split_whitespace().collect();
    let line = words.join(" ");
    let line = line.trim_start_matches(['#', '>', '`', ' ']);
    let item = line.strip_prefix("- ").or(line.strip_prefix("* "));
    item.unwrap_or(line).to_owned()
}

/// Embeddings, overrides and isolates, which would turn what stands beside the title.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_tidy_and_ends_with_a_word() {
        let long = "What is the difference between a mutex and a semaphore, and when is each of them used?";
        for (question, title) in [
            ("Why is the sky blue?", "Why is the sky blue?"),
            (
                "  Why\tis \u{202e}the\u{0} sky blue?\nTell me.",
                "Why is the sky blue?",
            ),
            ("\n\n## Plan\n- a", "Plan"),
            ("```\nfn main() {}\n```", "fn main() {}"),
            (
                long,
                "What is the difference between a mutex and a semaphore, and…",
            ),
            ("…", "…"),
            ("???\nwhat", "what"),
            ("- one\n- two", "one"),
            ("-5 degrees?", "-5 degrees?"),
        ] {
            assert_eq!(made_of(question), title);
        }
    }

    #[test]
    fn a_title_without_spaces_is_cut_between_letters() {
        let family = "👨‍👩‍👧";

        for letter in ["漢", family, "e\u{301}"] {
            let title = made_of(&format!("a{}", letter.repeat(100)));

            assert_eq!(title, format!("a{}…", letter.repeat(LETTERS_MAX - 2)));
        }
    }

    #[test]
    fn a_title_has_at_most_so_many_letters() {
        for n in 0..200 {
            let title = made_of(&"ab ".repeat(n));

            assert!(title.graphemes(true).count() <= LETTERS_MAX, "{title}");
        }
    }
}
