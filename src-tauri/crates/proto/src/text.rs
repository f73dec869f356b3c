//! Words of other phones, and of models, as they may be shown.

/// Returns words as they may be shown: without control and direction characters, without space around them, at most
/// `bytes_max` long.
pub fn clean(text: &str, bytes_max: usize) -> String {
    let clean = text.chars().filter(|&c| is_shown(c)).collect::<String>();
    let clean = clean.trim_matches(is_blank);
    let end = clean
        .char_indices()
        .map(|(start, c)| start + c.len_utf8())
        .take_while(|&end| end <= bytes_max)
        .last();

    clean[..end.unwrap_or(0)].trim_end_matches(is_blank).into()
}

/// Returns whether a character stands for itself: it neither controls a terminal, nor breaks a line, nor turns the
/// direction of what follows (Unicode's UAX #9), nor is invisible. Joiners stay, for Persian, Hindi and emoji.
pub fn is_shown(c: char) -> bool {
    let hidden = matches!(
        c,
        '\u{061c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );

    !hidden && !c.is_control()
}

/// Returns whether a character shows nothing where it stands at the end: space, or a joiner.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200c}'..='\u{200d}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_shown_without_tricks() {
        for (text, shown) in [
            ("Anna's phone", "Anna's phone"),
            ("  Zoë 📱 ", "Zoë 📱"),
            ("👩‍👩‍👧", "👩‍👩‍👧"),
            ("", ""),
            (" \t\n", ""),
            ("\u{200b}\u{200d}\u{feff}", ""),
            ("evil\u{202e}gpj.exe", "evilgpj.exe"),
            ("\u{2066}a\u{2069}\u{200f}b\u{61c}", "ab"),
            ("\u{1b}[2Jgone\r\n\0", "[2Jgone"),
            ("two\u{2028}lines", "twolines"),
        ] {
            assert_eq!(clean(text, 64), shown, "{text:?}");
        }
    }

    #[test]
    fn words_are_cut_between_characters() {
        let max = 64;
        for (text, bytes) in [
            ("x".repeat(max), max),
            ("x".repeat(max + 1), max),
            ("x".repeat(max - 1) + "é", max - 1),
            ("x".repeat(max - 2) + "é", max),
            ("📱".repeat(max), max),
            ("x".repeat(max - 1) + " y", max - 1),
        ] {
            assert_eq!(clean(&text, max).len(), bytes, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_as_it_is(text in any::<String>()) {
            let once = clean(&text, 64);

            prop_assert!(once.len() <= 64);
            prop_assert!(once.chars().all(is_shown));
            prop_assert_eq!(clean(&once, 64), once);
        }
    }
}
