//! Finding words in all that was said.
//!
//! A message is found if every word of the query stands in it, anywhere: in the middle of another word too, so that "schiff" finds
//! "Dampfschifffahrt", and Chinese and Japanese, which do not separate words, are found like anything else. Both sides are *folded*
//! first: capitals, accents and umlauts do not count, nor does how a letter is encoded.
//!
//! There is no index: the folded text of each message is kept beside it, and read, the newest first. Measured on a year of ten
//! conversations a week (17 MB of text) on a desktop, the rarest word takes 45 ms (`examples/history.rs`). FTS5 with trigrams, which
//! alone finds parts of words, took 21 ms for a word of three letters or more, and read everything for a shorter one, as most in
//! Chinese are. It made a start 5 s long (its index is checked with the file), and the deletion of forty messages 1.1 s
//! (`secure-delete`, without which deleted words stay in the index).

use std::collections::BTreeSet;
use std::iter;

use icu_normalizer::DecomposingNormalizerBorrowed;
use rusqlite::{Connection, Statement, params};

use super::HistoryError;
use super::archive::Archive;
use super::limits::{HITS_MAX, QUERY_CHARS, QUERY_WORDS};
use crate::api::{ConversationId, MessageId, SearchHit};

/// Letters shown before and after what was found: two lines of a phone's screen.
const BEFORE_CHARS: usize = 40;
const AFTER_CHARS: usize = 80;

/// Letters of a conversation's first message that are shown if its title is found.
const FIRST_CHARS: u32 = 120;

impl Archive {
    /// Returns where all words of a query stand, newest message first: at most [`HITS_MAX`] places, and none for an empty query.
    ///
    /// Any text is a query. Conversations whose title has all words come first, with their first message.
    ///
    /// # Errors
    ///
    /// Only those of the database.
    ///
    /// # Blocking
    ///
    /// As long as it takes to read all texts, if fewer are found.
    pub fn search(&self, query: &str) -> Result<Vec<SearchHit>, HistoryError> {
        let words = words(query);
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let messages = self.in_messages(&words)?;
        let mut hits = self.in_titles(&words)?;
        hits.retain(|hit| messages.iter().all(|other| other.message != hit.message));
        hits.extend(messages);
        hits.truncate(HITS_MAX);
        Ok(hits)
    }

    fn in_messages(&self, words: &BTreeSet<String>) -> Result<Vec<SearchHit>, HistoryError> {
        let mut all = self
            .connection
            .prepare_cached("SELECT message, text FROM folded ORDER BY message DESC")?;
        let mut rows = all.query(())?;
        let mut read = self.connection.prepare_cached(
            "SELECT c.id, c.title, m.id, m.text FROM message m JOIN conversation c ON c.seq = m.conversation WHERE m.seq = ?1",
        )?;

        let mut hits = Vec::new();
        while let Some(row) = rows.next()? {
            let folded = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if words.iter().all(|word| folded.contains(word.as_str())) {
                hits.push(hit(&mut read, row.get(0)?, words)?);
            }
            if hits.len() == HITS_MAX {
                break;
            }
        }
        Ok(hits)
    }

    fn in_titles(&self, words: &BTreeSet<String>) -> Result<Vec<SearchHit>, HistoryError> {
        let mut select = self.connection.prepare_cached(
            "SELECT c.id, c.title, m.id, substr(m.text, 1, ?1) FROM conversation c
            JOIN message m ON m.seq = (SELECT min(seq) FROM message WHERE conversation = c.seq AND kind <> 'notice')
            ORDER BY c.changed_unix_ms DESC, c.seq DESC",
        )?;
        let mut rows = select.query([FIRST_CHARS])?;

        let mut hits = Vec::new();
        while let Some(row) = rows.next()? {
            let title: String = row.get(1)?;
            let folded = fold(&title);
            if words.iter().all(|word| folded.contains(word.as_str())) {
                hits.push(SearchHit {
                    conversation: ConversationId(row.get(0)?),
                    title,
                    message: MessageId(row.get(2)?),
                    before: String::new(),
                    found: String::new(),
                    after: on_one_line(&row.get::<_, String>(3)?),
                });
            }
            if hits.len() == HITS_MAX {
                break;
            }
        }
        Ok(hits)
    }
}

/// Makes a message be found, until it is deleted.
pub(super) fn keep_folded(
    connection: &Connection,
    seq: i64,
    text: &str,
) -> Result<(), HistoryError> {
    if !text.is_empty() {
        connection
            .prepare_cached("INSERT INTO folded (message, text) VALUES (?1, ?2)")?
            .execute(params![seq, fold(text)])?;
    }
    Ok(())
}

fn hit(
    read: &mut Statement<'_>,
    seq: i64,
    words: &BTreeSet<String>,
) -> Result<SearchHit, HistoryError> {
    let hit = read.query_one([seq], |row| {
        let text: String = row.get(3)?;
        let (before, found, after) = around(&text, words);
        Ok(SearchHit {
            conversation: ConversationId(row.get(0)?),
            title: row.get(1)?,
            message: MessageId(row.get(2)?),
            before,
            found,
            after,
        })
    })?;
    Ok(hit)
}

/// Returns the folded words of a query.
fn words(query: &str) -> BTreeSet<String> {
    let typed: String = query.trim().chars().take(QUERY_CHARS).collect();
    fold(&typed)
        .split_whitespace()
        .take(QUERY_WORDS)
        .map(str::to_owned)
        .collect()
}

/// Returns what stands before the first word that is found, the word as it is written, and what stands after it.
fn around(text: &str, words: &BTreeSet<String>) -> (String, String, String) {
    let (folded, origins) = fold_with_origins(text);
    let place = words
        .iter()
        .filter_map(|word| Some((folded.find(word.as_str())?, word.len())))
        .min();
    let (from, to) = place.map_or((0, 0), |(at, len)| (origins[at], origins[at + len - 1]));
    // The letter at `to` belongs to it, with the accents that follow.
    let to = match place {
        Some(_) => text[to..]
            .char_indices()
            .skip(1)
            .find(|&(_, c)| !is_accent(c))
            .map_or(text.len(), |(i, _)| to + i),
        None => 0,
    };
    (
        before(&text[..from]),
        on_one_line(&text[from..to]),
        after(&text[to..]),
    )
}

fn before(text: &str) -> String {
    match text.char_indices().rev().nth(BEFORE_CHARS - 1) {
        Some((start, _)) if start > 0 => {
            let shown = &text[start..];
            let word = shown.find(char::is_whitespace).unwrap_or(0);
            // Where nothing separates words, it is cut anywhere.
            let word = if word > shown.len() / 2 { 0 } else { word };
            format!("…{}", on_one_line(shown[word..].trim_start()))
        }
        _ => on_one_line(text),
    }
}

fn after(text: &str) -> String {
    match text.char_indices().nth(AFTER_CHARS) {
        Some((end, _)) => {
            let shown = &text[..end];
            let word = shown.rfind(char::is_whitespace).unwrap_or(end);
            let word = if word < end / 2 { end } else { word };
            format!("{}…", on_one_line(&shown[..word]))
        }
        None => on_one_line(text),
    }
}

/// Makes single spaces of all space, also at the ends, where the found word follows.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_whitespace() {
            line.push(c);
        } else if !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line
}

fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        fold_letter(c, |c| folded.push(c));
    }
    folded
}

/// Returns the folded text, and for each byte of it where in the text its letter begins.
fn fold_with_origins(text: &str) -> (String, Vec<usize>) {
    let mut folded = String::with_capacity(text.len());
    let mut origins = Vec::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        fold_letter(c, |c| folded.push(c));
        origins.resize(folded.len(), at);
    }
    (folded, origins)
}

/// Small, in its compatible decomposition, without accents. Each letter for itself, so that it can be told where it was.
fn fold_letter(c: char, mut each: impl FnMut(char)) {
    const NFKD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizerBorrowed::new_nfkd();

    if c.is_control() {
        return each(' ');
    }
    if c.is_ascii() {
        return each(c.to_ascii_lowercase());
    }
    match c {
        'ß' | 'ẞ' => "ss".chars().for_each(each),
        'ς' => each('σ'),
        'ı' => each('i'),
        // Syllables of Hangul would become their parts, three times as many.
        '\u{ac00}'..='\u{d7a3}' => each(c),
        _ => NFKD
            .normalize_iter(iter::once(c))
            .flat_map(char::to_lowercase)
            .filter(|&c| !is_accent(c))
            .for_each(each),
    }
}

/// Marks that people leave out when they type: Latin, Greek and Cyrillic accents, Hebrew and Arabic vowels. Not those that make
/// another letter, as in Hindi, Thai or Japanese.
fn is_accent(c: char) -> bool {
    matches!(
        c,
        '\u{300}'..='\u{36f}'
            | '\u{591}'..='\u{5bd}'
            | '\u{64b}'..='\u{655}'
            | '\u{670}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe20}'..='\u{fe2f}'
    )
}

/// Whether nothing is left of a word, or only space.
#[cfg(test)]
pub(super) fn folds_to_nothing(word: &str) -> bool {
    words(word).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_accents_and_encoding_do_not_count() {
        for (text, folded) in [
            ("Müller ÜBER Straße", "muller uber strasse"),
            ("Mu\u{308}ller", "muller"),
            ("Σίσυφος ΟΔΟΣ", "σισυφοσ οδοσ"),
            ("İstanbul ISTANBUL ısı", "istanbul istanbul isi"),
            ("ＡＢＣ ﬁne", "abc fine"),
            ("日本語 한국어", "日本語 한국어"),
            ("हिन्दी", "हिन्दी"),
            ("مُحَمَّد", "محمد"),
            ("a\0b\nc", "a b c"),
        ] {
            assert_eq!(fold(text), folded);
        }
    }

    #[test]
    fn what_is_found_is_shown_as_it_is_written() {
        for (text, query, expected) in [
            (
                "Die Straße ist naß.",
                "STRASSE",
                ("Die ", "Straße", " ist naß."),
            ),
            (
                "Die Straße ist naß.",
                "stras",
                ("Die ", "Straß", "e ist naß."),
            ),
            ("Cafe\u{301}s", "cafe", ("", "Cafe\u{301}", "s")),
            ("我爱北京天安门", "北京", ("我爱", "北京", "天安门")),
            ("one\n\n  two three", "two", ("one ", "two", " three")),
            ("use C++ here", "c++", ("use ", "C++", " here")),
        ] {
            let (before, found, after) = around(text, &words(query));

            assert_eq!((before.as_str(), found.as_str(), after.as_str()), expected);
        }
    }

    #[test]
    fn long_texts_are_cut_at_words() {
        let text = format!("{}needle{}", "hay ".repeat(100), " straw".repeat(100));

        let (before, found, after) = around(&text, &words("needle"));

        assert_eq!(before, format!("…{}", "hay ".repeat(9)));
        assert_eq!(found, "needle");
        assert_eq!(after, format!("{}…", " straw".repeat(13)));
    }
}
