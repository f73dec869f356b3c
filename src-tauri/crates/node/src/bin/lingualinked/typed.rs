//! What a person types on a phone's terminal: short words, and anything else is a question.

/// What was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Nothing.
    Nothing,
    /// Which words there are.
    Help,
    /// Which phones are near.
    Nearby,
    /// To be in the group of the phone of this number.
    Tap(u32),
    /// To have it in this phone's group.
    Bring(u32),
    /// The code is the same on both: of the only phone that shows one, or the code itself, without spaces.
    Yes(Option<String>),
    /// It is not.
    No(Option<String>),
    /// Who is in the group.
    Members,
    /// Out of the group.
    Leave,
    /// That phone out of it.
    Remove(u32),
    /// Never to hear that phone again.
    Block(u32),
    /// To hear it again.
    Unblock(u32),
    /// Which phones are blocked.
    Blocked,
    /// That member to lead.
    HandOver(u32),
    /// A link that lets one phone in.
    Invite,
    /// To use a link.
    JoinLink(String),
    /// To use a typed code.
    JoinCode(String),
    /// To run this phone's model with so many phones.
    Run(u32),
    /// To run nothing any more.
    StopRunning,
    /// What to expect of this phone's model.
    Forecast,
    /// Who runs what.
    Plan,
    /// How things stand.
    Status,
    /// To be called something else.
    Rename(String),
    /// To knock at every address of the own network.
    Probe,
    /// To begin a new conversation.
    New,
    /// To end.
    Quit,
    /// A question for the group.
    Question(String),
}

/// The words, for people.
pub const HELP: &str = "\
nearby         which phones are near     tap N        ask phone N to be let into its group
members        who is in the group       bring N      ask phone N to come into this one's
yes, no        to a code that is shown; with several, `yes CODE`
invite         a link, a QR code and a code to type, each of which lets one phone in
join LINK      or join CODE: use one     probe        knock at every address of this network
leave          leave the group           rename NAME  call this phone NAME
remove N       take member N out         hand over N  let member N lead; both if this phone leads
block N        never hear of phone N     unblock N    again; `blocked` lists them
run N          run this phone's model once N phones are here; plan: who runs what
forecast       what to expect of it      stop         run nothing any more
status         all of this               new          a new conversation
quit           end this phone            ? TEXT       ask TEXT, even if it is one of these words
Anything else is asked. Ctrl-C stops an answer.";

/// Returns what a line means.
pub fn read(line: &str) -> Typed {
    let line = line.trim();
    let words = line.split_whitespace().collect::<Vec<_>>();
    if let Some(question) = line.strip_prefix('?') {
        return Typed::Question(question.trim().to_owned());
    }

    match words[..] {
        [] => Typed::Nothing,
        ["help"] => Typed::Help,
        ["nearby"] => Typed::Nearby,
        ["yes"] => Typed::Yes(None),
        ["no"] => Typed::No(None),
        ["yes", ref code @ ..] if is_code(code) => Typed::Yes(Some(code.concat())),
        ["no", ref code @ ..] if is_code(code) => Typed::No(Some(code.concat())),
        ["members"] => Typed::Members,
        ["leave"] => Typed::Leave,
        ["blocked"] => Typed::Blocked,
        ["invite"] => Typed::Invite,
        ["plan"] => Typed::Plan,
        ["stop"] => Typed::StopRunning,
        ["forecast"] => Typed::Forecast,
        ["status"] => Typed::Status,
        ["probe"] => Typed::Probe,
        ["new"] => Typed::New,
        ["quit" | "exit"] => Typed::Quit,
        ["join", ref code @ ..] if !code.is_empty() => joining(&code.join(" "), line),
        ["rename", _, ..] => Typed::Rename(line["rename".len()..].trim().to_owned()),
        [ref word @ .., number] => match number.parse() {
            Ok(number) => numbered(word, number, line),
            Err(_) => Typed::Question(line.to_owned()),
        },
    }
}

fn numbered(word: &[&str], number: u32, line: &str) -> Typed {
    match word {
        ["tap" | "ask"] => Typed::Tap(number),
        ["bring"] => Typed::Bring(number),
        ["remove"] => Typed::Remove(number),
        ["block"] => Typed::Block(number),
        ["unblock"] => Typed::Unblock(number),
        ["hand", "over"] => Typed::HandOver(number),
        ["run" | "model"] => Typed::Run(number),
        _ => Typed::Question(line.to_owned()),
    }
}

/// A link, or a code in groups of letters and digits; "join us for dinner" is a question.
fn joining(what: &str, line: &str) -> Typed {
    if is_link(what) {
        return Typed::JoinLink(what.to_owned());
    }
    let is_typed_code = what.chars().any(|c| c.is_ascii_digit())
        && what
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | ' '));

    if is_typed_code {
        Typed::JoinCode(what.to_owned())
    } else {
        Typed::Question(line.to_owned())
    }
}

/// Returns whether an invite is a link, and no code to be typed.
pub fn is_link(invite: &str) -> bool {
    invite.contains("://")
}

fn is_code(words: &[&str]) -> bool {
    words.concat().chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_orders_and_sentences_are_questions() {
        let orders = [
            ("tap 2", Typed::Tap(2)),
            ("  hand over 12 ", Typed::HandOver(12)),
            ("yes", Typed::Yes(None)),
            ("yes 123 456", Typed::Yes(Some("123456".into()))),
            ("rename  Sam's phone", Typed::Rename("Sam's phone".into())),
            ("join 0M5R-7K2Q", Typed::JoinCode("0M5R-7K2Q".into())),
            (
                "join lingualinked://join?v=1",
                Typed::JoinLink("lingualinked://join?v=1".into()),
            ),
            ("", Typed::Nothing),
        ];
        let questions = [
            "remove the stain",
            "leave me alone",
            "yes we can",
            "join us for dinner",
            "tap",
            "tap -1",
            "what is 7 times 6",
            "block 99999999999999",
        ];

        for (line, order) in orders {
            assert_eq!(read(line), order, "{line:?}");
        }
        for line in questions {
            assert_eq!(read(line), Typed::Question(line.into()));
        }
        assert_eq!(read("? status"), Typed::Question("status".into()));
    }
}
