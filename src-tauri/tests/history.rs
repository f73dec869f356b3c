//! Whatever is done with it, the history holds what a list in memory would, and finds what stands in it.

mod reference;

use std::path::Path;

use app::history::{Archive, HistoryError};
use proptest::collection::vec;
use proptest::prelude::*;
use reference::database::open_checked;
use reference::{Body, Ending, Operation, Reference, Refusal, Subject, Talk, shown};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))] // each waits some dozen times for the disk

    #[test]
    fn the_history_is_what_a_list_would_be(operations in vec(operation(), 1..60)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let mut archive = open(&path);
        let (mut reference, mut subject) = (Reference::default(), Subject::new(0));

        for operation in &operations {
            let expected = reference.apply(operation);
            let result = subject.apply(&mut archive, operation);
            prop_assert_eq!(refusal(result), expected, "{:?}", operation);

            if *operation == Operation::Reopen {
                drop(archive);
                archive = open(&path);
            }
            prop_assert_eq!(shown(&archive), reference.shown(), "after {:?}", operation);
        }
        for word in WORDS {
            let found = archive.search(word).expect("searched").len();
            prop_assert_eq!(found, n_found(&reference.shown(), word), "{}", word);
        }
        drop(archive);
        open_checked(&path);
    }
}

/// Each stands for a way of folding, or stands within another.
const WORDS: [&str; 7] = ["needle", "need", "ed", "Straße", "北京", "x", "c++"];

/// How many messages have a word; the folded forms of [`WORDS`] differ from them only by capitals and `ß`.
fn n_found(talks: &[Talk], word: &str) -> usize {
    let fold = |text: &str| text.to_lowercase().replace('ß', "ss");
    let word = fold(word);
    let in_messages = |talk: &Talk| {
        let found = talk.messages.iter().filter(|body| match body {
            Body::Question(text) => fold(text).contains(&word),
            // What is being written is found when it has ended.
            Body::Answer(text, outcome) => {
                *outcome != app::api::AnswerOutcome::UnderWay && fold(text).contains(&word)
            }
            Body::Notice => false,
        });
        found.count()
    };
    // A title leads to the first message, unless that is found itself.
    let in_title = |talk: &Talk| {
        let first = talk.messages.iter().find(|body| **body != Body::Notice);
        let itself = match first {
            Some(Body::Question(text)) => fold(text).contains(&word),
            Some(Body::Answer(text, outcome)) => {
                *outcome != app::api::AnswerOutcome::UnderWay && fold(text).contains(&word)
            }
            Some(Body::Notice) | None => return 0,
        };
        usize::from(fold(&talk.title).contains(&word) && !itself)
    };
    let found: usize = talks
        .iter()
        .map(|talk| in_messages(talk) + in_title(talk))
        .sum();
    found.min(app::history::limits::HITS_MAX)
}

fn operation() -> impl Strategy<Value = Operation> {
    let talk = || 0..3_usize;
    let message = || 0..6_usize;
    prop_oneof![
        1 => Just(Operation::Create),
        1 => (talk(), text()).prop_map(|(at, title)| Operation::Rename(at, title)),
        1 => (talk(), text(), 0..3_u8).prop_map(|(at, prompt, heat)| Operation::Configure(at, prompt, heat)),
        1 => talk().prop_map(Operation::Delete),
        1 => (talk(), message()).prop_map(|(at, message)| Operation::DeleteMessage(at, message)),
        4 => (talk(), text()).prop_map(|(at, text)| Operation::Ask(at, text)),
        2 => (talk(), message(), text()).prop_map(|(at, message, text)| Operation::Edit(at, message, text)),
        2 => talk().prop_map(Operation::Again),
        8 => (talk(), text()).prop_map(|(at, text)| Operation::Append(at, text)),
        4 => (talk(), ending()).prop_map(|(at, ending)| Operation::End(at, ending)),
        1 => talk().prop_map(Operation::Note),
        1 => Just(Operation::Reopen),
    ]
}

fn text() -> impl Strategy<Value = String> {
    vec(prop::sample::select(&WORDS[..]), 1..5).prop_map(|words| words.join(" "))
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![Just(Ending::Complete), Just(Ending::CutOff)]
}

fn refusal(result: Result<(), HistoryError>) -> Result<(), Refusal> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "anything else fails the test"
    )]
    result.map_err(|error| match error {
        HistoryError::Answering => Refusal::Answering,
        HistoryError::NotAQuestion => Refusal::NotAQuestion,
        HistoryError::NothingToAnswer => Refusal::NothingToAnswer,
        other => panic!("{other}"),
    })
}

fn open(path: &Path) -> Archive {
    let (archive, found) = Archive::open(path, 1).expect("opened");
    assert_eq!(found.set_aside, None);
    archive
}
