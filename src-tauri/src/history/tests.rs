//! What each verb does, and what a file may be like when it is opened.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rusqlite::Connection;

use super::limits::{HITS_MAX, Limited, MESSAGES_MAX};
use super::schema::MIGRATIONS;
use super::{Archive, Found, History, HistoryError, KnownModel, Place};
use crate::api::{
    AnswerOutcome, ConversationId, Figures, MessageBody, MessageId, ModelId, Notice, Problem,
    Question, QuestionWhat, Sampling, Settings,
};

#[test]
fn migrations_are_valid() {
    MIGRATIONS.validate().expect("they can be applied");
}

#[test]
fn an_answer_is_read_while_it_is_written_and_whole_after_its_end() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");

    let begun = ask(&mut archive, &talk, "Why?");
    archive.append(&begun, "Be").expect("appended");
    archive.append(&begun, "cause…").expect("appended");

    assert_eq!(texts(&archive, &talk), ["Why?", "Because…"]);
    assert!(archive.conversations().expect("listed")[0].answering);
    let ended = archive
        .end(&begun, AnswerOutcome::Complete, Some(&figures()), 9)
        .expect("ended");
    let MessageBody::Answer {
        text,
        outcome,
        figures: kept,
    } = &ended.body
    else {
        panic!("it is an answer");
    };
    assert_eq!(
        (text.as_str(), outcome, kept),
        ("Because…", &AnswerOutcome::Complete, &Some(figures()))
    );
    let loaded = archive.load(&talk).expect("loaded");
    assert_eq!(loaded.messages[1], ended);
    assert_eq!(loaded.title, "Why?");
    let summary = &archive.conversations().expect("listed")[0];
    assert_eq!(
        (
            summary.preview.as_str(),
            summary.n_messages,
            summary.answering,
            summary.changed_unix_ms
        ),
        ("Because…", 2, false, 9)
    );
    assert!(matches!(
        archive.append(&begun, "x"),
        Err(HistoryError::NotUnderWay)
    ));
}

#[test]
fn an_answer_left_under_way_is_ended_with_its_words_and_stays_so() {
    let fixture = Fixture::new();
    let mut archive = fixture.open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    let answer = ask(&mut archive, &talk, "Why?");
    archive.append(&answer, "Because").expect("appended");
    drop(archive);

    let (archive, found) = Archive::open(&fixture.path(), 2).expect("opened");

    let n_left = 1;
    assert_eq!(
        found,
        Found {
            set_aside: None,
            n_left
        }
    );
    assert_eq!(texts(&archive, &talk), ["Why?", "Because"]);
    let last = &archive.load(&talk).expect("loaded").messages[1];
    let left = last.clone();
    assert!(matches!(
        left.body,
        MessageBody::Answer {
            outcome: AnswerOutcome::AppEnded,
            ..
        }
    ));
    assert_eq!(archive.search("because").expect("searched").len(), 1);

    // A third start leaves it at that.
    drop(archive);
    let (archive, found) = Archive::open(&fixture.path(), 3).expect("opened");
    assert_eq!(found, Found::default());
    assert_eq!(archive.load(&talk).expect("loaded").messages[1], left);
}

#[test]
fn an_edited_question_drops_what_followed_and_again_drops_the_answer() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    said(&mut archive, &talk, "first", "one");
    said(&mut archive, &talk, "second", "two");
    let messages = archive.load(&talk).expect("loaded").messages;

    let begun = archive
        .begin(&question(&talk, QuestionWhat::Again), "Ann", 5)
        .expect("begun");

    assert_eq!(begun.dropped_from.as_ref(), Some(&messages[3].id));
    assert_eq!(begun.added.len(), 1);
    assert_eq!(texts(&archive, &talk), ["first", "one", "second", ""]);
    let edit = |message: &MessageId| QuestionWhat::Edit {
        message: message.clone(),
        text: "other".into(),
    };
    let refused = archive.begin(&question(&talk, edit(&messages[0].id)), "Ann", 6);
    assert!(matches!(refused, Err(HistoryError::Answering)));
    archive
        .end(&begun.answer, AnswerOutcome::Stopped, None, 6)
        .expect("ended");
    let refused = archive.begin(&question(&talk, edit(&messages[1].id)), "Ann", 6);
    assert!(matches!(refused, Err(HistoryError::NotAQuestion)));
    let begun = archive
        .begin(&question(&talk, edit(&messages[0].id)), "Ann", 7)
        .expect("begun");
    assert_eq!(begun.dropped_from.as_ref(), Some(&messages[0].id));
    assert_eq!(texts(&archive, &talk), ["other", ""]);
    assert_eq!(archive.load(&talk).expect("loaded").title, "other");
    assert!(archive.search("second").expect("searched").is_empty());
}

#[test]
fn a_title_that_a_person_chose_stays() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    said(&mut archive, &talk, "first", "one");
    archive.rename(&talk, " Mine ").expect("renamed");
    let message = archive.load(&talk).expect("loaded").messages[0].id.clone();

    let text = "other".to_owned();
    archive
        .begin(
            &question(&talk, QuestionWhat::Edit { message, text }),
            "Ann",
            5,
        )
        .expect("begun");

    assert_eq!(archive.load(&talk).expect("loaded").title, "Mine");
}

#[test]
fn what_was_deleted_while_it_was_written_takes_no_more_words() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    let answer = ask(&mut archive, &talk, "Why?");
    archive.append(&answer, "Because").expect("appended");

    let refused = archive.delete_message(&talk, &answer);
    archive.delete(&talk).expect("deleted");

    assert!(matches!(refused, Err(HistoryError::Answering)));
    assert!(matches!(
        archive.append(&answer, "x"),
        Err(HistoryError::NotUnderWay)
    ));
    let ended = archive.end(&answer, AnswerOutcome::Complete, None, 2);
    assert!(matches!(ended, Err(HistoryError::NotUnderWay)));
    assert!(matches!(
        archive.load(&talk),
        Err(HistoryError::NoSuchConversation)
    ));
    assert!(matches!(
        archive.delete(&talk),
        Err(HistoryError::NoSuchConversation)
    ));
}

/// The letter stands in no other text, so each place where its bytes are is one that deleting has left out.
#[test]
fn deleted_is_gone_from_the_files() {
    const LETTER: &str = "ꙮ";
    let secret = format!("{LETTER}a{LETTER}b{LETTER}{LETTER} ").repeat(700); // more than one page
    let deletions: [fn(&mut Archive, &ConversationId); 3] = [
        |archive, talk| archive.delete(talk).expect("deleted"),
        |archive, talk| {
            for message in archive.load(talk).expect("loaded").messages {
                archive.delete_message(talk, &message.id).expect("deleted");
            }
            archive.rename(talk, "").expect("renamed");
        },
        |archive, talk| {
            let message = archive.load(talk).expect("loaded").messages[0].id.clone();
            let text = "harmless".to_owned();
            let edit = question(talk, QuestionWhat::Edit { message, text });
            archive.begin(&edit, "Ann", 8).expect("begun");
        },
    ];

    for (i, delete) in deletions.into_iter().enumerate() {
        let fixture = Fixture::new();
        let mut archive = fixture.open();
        for n in 0..20 {
            let talk = archive.create(&SAMPLING, n).expect("created");
            said(
                &mut archive,
                &talk,
                "hello",
                &format!("some words, {n} of them"),
            );
        }
        let talk = archive.create(&SAMPLING, 50).expect("created");
        said(&mut archive, &talk, &secret, &secret);
        assert!(fixture.holds(LETTER), "it was written");

        delete(&mut archive, &talk);
        // Renaming is no deletion, but a title is a text too: it is gone with the next.
        let other = archive.create(&SAMPLING, 60).expect("created");
        archive.delete(&other).expect("deleted");

        assert!(!fixture.holds(LETTER), "way {i}");
        assert_eq!(archive.search("some words").expect("searched").len(), 20);
        archive.check_all();
    }
}

#[test]
fn a_file_gets_smaller_when_much_is_deleted() {
    let fixture = Fixture::new();
    let mut archive = fixture.open();
    let empty = archive.bytes().expect("bytes");
    let talk = archive.create(&SAMPLING, 1).expect("created");
    for n in 0..20 {
        said(&mut archive, &talk, &format!("{n} ").repeat(5_000), "yes");
    }
    let full = archive.bytes().expect("bytes");

    archive.delete(&talk).expect("deleted");

    let after = archive.bytes().expect("bytes");
    assert!(full > empty + 300_000, "{full}");
    assert!(after <= empty + 50_000, "{empty}, {full}, {after}");
}

#[test]
fn words_are_found_in_any_language() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    said(
        &mut archive,
        &talk,
        "Wie heißt die Donaudampfschifffahrt von Herrn Müller?",
        "我爱北京天安门。 東京タワーは高い。 Use C++ and a \"quoted\" 50% word_or_two.",
    );

    for (query, n_found) in [
        ("schiff", 1),
        ("SCHIFF", 1),
        ("muller", 1),
        ("MÜLLER", 1),
        ("heisst", 1),
        ("müll wie", 1),
        ("müll 北京", 0), // not in one message
        ("北京", 1),
        ("京", 1),
        ("タワ", 1),
        ("ﾀﾜｰ", 1), // half-width
        ("c++", 1),
        ("\"quoted\"", 1),
        ("50%", 1),
        ("or_two", 1),
        ("w%d", 0),
        ("zebra", 0),
        ("  ", 0),
        ("", 0),
    ] {
        assert_eq!(
            archive.search(query).expect("searched").len(),
            n_found,
            "{query}"
        );
    }
    let hits = archive.search("北京").expect("searched");
    assert_eq!(
        (hits[0].before.as_str(), hits[0].found.as_str()),
        ("我爱", "北京")
    );
    assert_eq!(hits[0].conversation, talk);
}

#[test]
fn a_title_is_found_too_and_shown_once() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    said(&mut archive, &talk, "zebra", "one");
    assert_eq!(archive.search("zebra").expect("searched").len(), 1);

    archive.rename(&talk, "Taxes 2026").expect("renamed");

    let hits = archive.search("taxes").expect("searched");
    assert_eq!(hits.len(), 1);
    assert_eq!(
        (hits[0].found.as_str(), hits[0].after.as_str()),
        ("", "zebra")
    );
}

#[test]
fn so_many_are_found_and_the_newest_first() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    archive.rename(&talk, "title").expect("renamed");
    for n in 0..HITS_MAX {
        said(&mut archive, &talk, &format!("needle {n}"), "needle");
    }

    for query in ["needle", "ne"] {
        let hits = archive.search(query).expect("searched");

        assert_eq!(hits.len(), HITS_MAX);
        let last = archive.load(&talk).expect("loaded").messages.pop();
        assert_eq!(hits[0].message, last.expect("there are some").id);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))] // each waits some times for the disk

    #[test]
    fn any_text_is_a_query(texts in vec(any::<String>(), 1..4), query: String, cut: Index) {
        let mut archive = Fixture::new().open();
        let talk = archive.create(&SAMPLING, 1).expect("created");
        for text in texts.iter().filter(|text| !text.trim().is_empty()) {
            said(&mut archive, &talk, text, text);
        }

        archive.search(&query).expect("searched");

        // A piece of a text is found, and put together again from what is shown.
        if let Some(text) = texts.first().filter(|text| !text.trim().is_empty() && text.len() < 200) {
            let from = text.floor_char_boundary(cut.index(text.len()));
            let word = text[from..].split_whitespace().next().unwrap_or_default();
            let hits = archive.search(word).expect("searched");
            prop_assert!(hits.len() >= 2 || super::search::folds_to_nothing(word), "{word:?}");
        }
    }
}

#[test]
fn texts_have_limits() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    let new = |text: String| question(&talk, QuestionWhat::New { text });
    let long = |what: Limited| "x".repeat(what.bytes_max() + 1);
    let too_long = |result: Result<(), HistoryError>, what: Limited| {
        let Err(HistoryError::TooLong { what: found, bytes }) = result else {
            panic!("{what} is taken");
        };
        assert_eq!((found, bytes), (what, what.bytes_max() + 1));
    };

    let begun = archive.begin(&new(long(Limited::Question)), "Ann", 2);
    too_long(begun.map(drop), Limited::Question);
    let begun = archive.begin(&new("why".into()), &long(Limited::Name), 2);
    too_long(begun.map(drop), Limited::Name);
    too_long(archive.rename(&talk, &long(Limited::Title)), Limited::Title);
    let prompt = long(Limited::SystemPrompt);
    too_long(
        archive.configure(&talk, &prompt, &SAMPLING),
        Limited::SystemPrompt,
    );
    too_long(archive.set_name(&long(Limited::Name)), Limited::Name);
    let begun = archive.begin(&new(" \n".into()), "Ann", 2);
    assert!(matches!(begun, Err(HistoryError::Empty(Limited::Question))));
    let begun = archive.begin(&question(&talk, QuestionWhat::Again), "Ann", 2);
    assert!(matches!(begun, Err(HistoryError::NothingToAnswer)));
    assert!(archive.load(&talk).expect("loaded").messages.is_empty());

    archive
        .rename(&talk, &long(Limited::Title)[1..])
        .expect("as long as may be");
    let question = long(Limited::Question)[1..].to_owned();
    let answer = archive
        .begin(&new(question), "Ann", 2)
        .expect("as long as may be")
        .answer;
    archive
        .append(&answer, &long(Limited::Answer)[2..])
        .expect("nearly full");
    archive.append(&answer, "x").expect("full");
    let n = Limited::Answer.bytes_max() + 1;
    too_long(archive.append(&answer, "x"), Limited::Answer);
    let ended = archive
        .end(&answer, AnswerOutcome::CutOff, None, 3)
        .expect("ended");
    assert!(matches!(ended.body, MessageBody::Answer { text, .. } if text.len() == n - 1));
}

#[test]
fn numbers_have_limits() {
    type Spoil = fn(&mut Sampling);

    let mut archive = Fixture::new().open();
    let bad: [(&str, Spoil); 6] = [
        ("temperature", |s| s.temperature = f64::NAN),
        ("top_p", |s| s.top_p = 1.5),
        ("min_p", |s| s.min_p = -0.1),
        ("repetition_penalty", |s| {
            s.repetition_penalty = f64::INFINITY
        }),
        ("seed", |s| s.seed = Some(u64::MAX)),
        ("max_tokens", |s| s.max_tokens = 0),
    ];

    for (name, spoil) in bad {
        let mut sampling = SAMPLING;
        spoil(&mut sampling);

        let created = archive.create(&sampling, 1);

        assert!(matches!(created, Err(HistoryError::OutOfRange(found)) if found == name));
    }
}

#[test]
fn a_conversation_has_a_last_message() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    archive
        .connection
        .execute(
            "INSERT INTO message (id, conversation, at_unix_ms, kind, text, asker)
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
            SELECT 'm' || i, 1, i, 'question', 'x', 'Ann' FROM n",
            [MESSAGES_MAX],
        )
        .expect("inserted");

    let text = "one more".to_owned();
    let begun = archive.begin(&question(&talk, QuestionWhat::New { text }), "Ann", 2);
    let noted = archive.note(&talk, Notice::ContinuingAlone, 2);

    assert!(matches!(
        begun,
        Err(HistoryError::Full {
            messages_max: MESSAGES_MAX
        })
    ));
    assert!(matches!(noted, Err(HistoryError::Full { .. })));
}

/// Words that an earlier version knew, and this one does not.
#[test]
fn what_cannot_be_read_costs_no_conversation() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    said(&mut archive, &talk, "Why?", "Because");
    archive
        .note(&talk, Notice::ContinuingAlone, 2)
        .expect("noted");
    archive
        .connection
        .execute_batch(
            r#"UPDATE message SET figures = '{"old": 1}', outcome = '{"kind": "old"}' WHERE kind = 'answer';
            UPDATE message SET notice = '{"kind": "old"}' WHERE kind = 'notice';
            INSERT INTO preference VALUES ('settings', '{"old": true}')"#,
        )
        .expect("changed");

    let messages = archive.load(&talk).expect("loaded").messages;

    let figures = None;
    let outcome = AnswerOutcome::Stopped;
    let text = "Because".to_owned();
    assert_eq!(messages.len(), 2);
    assert_eq!(
        messages[1].body,
        MessageBody::Answer {
            text,
            outcome,
            figures
        }
    );
    assert_eq!(archive.settings().expect("read"), None);
}

#[test]
fn an_answer_ends_whatever_is_told_about_it() {
    let mut archive = Fixture::new().open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    let answer = ask(&mut archive, &talk, "Why?");
    let figures = Figures {
        phones: vec!["x".repeat(100_000)],
        ttft_s: f64::NAN,
        ..figures()
    };
    let problem = Problem::other("y".repeat(100_000));

    let outcome = AnswerOutcome::Failed { problem };
    let ended = archive
        .end(&answer, outcome, Some(&figures), 3)
        .expect("ended");

    let MessageBody::Answer {
        outcome, figures, ..
    } = ended.body
    else {
        panic!("it is an answer");
    };
    let problem = Problem::other("y".repeat(1000));
    assert_eq!(outcome, AnswerOutcome::Failed { problem });
    assert_eq!(figures, None);
}

#[test]
fn preferences_and_models_are_kept() {
    let fixture = Fixture::new();
    let mut archive = fixture.open();
    let model = KnownModel {
        id: ModelId("b3:1".into()),
        place: Place::Path("/models/ä.gguf".into()),
        file_name: "ä.gguf".into(),
        file_bytes: 1 << 40,
        modified_ms: 1,
        sha256: None,
    };
    let other = KnownModel {
        id: ModelId("b3:2".into()),
        place: Place::Address("content://downloads/7".into()),
        sha256: Some("0f".repeat(32)),
        ..model.clone()
    };
    assert_eq!(archive.name().expect("read"), "");
    assert!(!archive.welcomed().expect("read"));
    assert_eq!(archive.settings().expect("read"), None);

    archive.set_name("Ann's phone").expect("kept");
    archive.set_welcomed().expect("kept");
    archive.save_settings(&SETTINGS).expect("kept");
    archive.remember_model(&other).expect("kept");
    archive.remember_model(&model).expect("kept");
    drop(archive);

    let mut archive = fixture.open();
    assert_eq!(archive.name().expect("read"), "Ann's phone");
    assert!(archive.welcomed().expect("read"));
    assert_eq!(archive.settings().expect("read"), Some(SETTINGS));
    assert_eq!(
        archive.models().expect("read"),
        [model.clone(), other.clone()]
    );
    archive.forget_model(&model.id).expect("forgotten");
    assert_eq!(archive.models().expect("read"), [other]);
    let battery_floor = f64::NAN;
    let refused = archive.save_settings(&Settings {
        battery_floor,
        ..SETTINGS
    });
    assert!(matches!(
        refused,
        Err(HistoryError::OutOfRange("battery_floor"))
    ));
}

#[test]
fn a_later_version_s_database_is_refused_and_left_as_it_is() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let connection = Connection::open(fixture.path()).expect("opened");
    connection
        .execute_batch("PRAGMA user_version = 99; CREATE TABLE later (x)")
        .expect("changed");
    drop(connection);
    let before = fs::read(fixture.path()).expect("read");

    let opened = Archive::open(&fixture.path(), 1);

    assert!(matches!(opened, Err(HistoryError::Newer)));
    assert!(fs::read(fixture.path()).expect("read") == before);
    assert_eq!(fixture.files(), ["history.db"]);
}

#[test]
fn a_damaged_database_is_set_aside_and_a_new_one_begun() {
    type Spoil = fn(&Path);

    let damages: [(&str, Spoil); 5] = [
        ("other bytes", |path| {
            fs::write(path, b"no database at all, but words").expect("written")
        }),
        ("a page of zeros", |path| {
            overwrite(path, 4096 * 2, &[0; 4096])
        }),
        ("a page of ones", |path| {
            overwrite(path, 4096 * 3, &[0xff; 4096])
        }),
        ("half of it", |path| {
            let bytes = fs::read(path).expect("read");
            fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
        }),
        ("another program's", |path| {
            fs::remove_file(path).expect("removed");
            let connection = Connection::open(path).expect("opened");
            connection
                .execute_batch(
                    "PRAGMA journal_mode = WAL; CREATE TABLE bookmark (x); PRAGMA user_version = 1",
                )
                .expect("made");
        }),
    ];

    for (damage, spoil) in damages {
        let fixture = Fixture::new();
        let mut archive = fixture.open();
        let talk = archive.create(&SAMPLING, 1).expect("created");
        said(&mut archive, &talk, &"words ".repeat(3_000), "yes");
        drop(archive);
        spoil(&fixture.path());
        let spoiled = fs::read(fixture.path()).expect("read");

        let (mut archive, found) = Archive::open(&fixture.path(), 17).expect("opened");

        let aside = found.set_aside.expect(damage);
        assert_eq!(aside, fixture.folder.path().join("history.db-damaged-17"));
        assert!(fs::read(aside).expect("read") == spoiled, "{damage}");
        assert!(archive.conversations().expect("listed").is_empty());
        archive.create(&SAMPLING, 1).expect("created");
    }
}

#[test]
fn damage_that_is_met_later_is_told() {
    let fixture = Fixture::new();
    let mut archive = fixture.open();
    let talk = archive.create(&SAMPLING, 1).expect("created");
    said(&mut archive, &talk, "Why?", &"words ".repeat(30_000));
    archive.erase().expect("checkpointed");
    let n_pages = fs::metadata(fixture.path()).expect("there").len() / 4096;
    archive
        .connection
        .execute_batch("PRAGMA shrink_memory; PRAGMA cache_size = 0")
        .expect("set");
    for page in 3..n_pages {
        overwrite(&fixture.path(), page * 4096, &[0xff; 4096]);
    }

    let loaded = archive.load(&talk);

    assert!(matches!(&loaded, Err(HistoryError::Damaged)), "{loaded:?}");
    assert_eq!(loaded.expect_err("damaged").problem(), Problem::Damaged);
    drop(archive);
    let (_, found) = Archive::open(&fixture.path(), 1).expect("opened");
    assert!(found.set_aside.is_some());
}

#[test]
fn nobody_else_can_open_or_read_it() {
    let fixture = Fixture::new();
    let path = fixture.path();
    fs::write(&path, []).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
    drop(fixture.open());
    let mut archive = fixture.open();
    archive.create(&SAMPLING, 1).expect("created");

    let second = Archive::open(&path, 1);

    assert!(matches!(second, Err(HistoryError::InUse { .. })));
    assert_eq!(fixture.files(), ["history.db", "history.db-wal"]);
    for file in fixture.files() {
        let metadata = fs::metadata(fixture.folder.path().join(&file)).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let fixture = Fixture::new();
    fs::write(fixture.folder.path().join("file"), []).expect("written");

    let opened = Archive::open(&fixture.folder.path().join("file/history.db"), 1);

    assert!(matches!(opened, Err(HistoryError::File { path, .. }) if path.ends_with("file")));
}

#[tokio::test]
async fn the_thread_does_jobs_in_order_and_closes_the_file() {
    let fixture = Fixture::new();
    let (history, _) = History::open(&fixture.path(), 1).expect("opened");
    let talk = history
        .run(|archive| archive.create(&SAMPLING, 1))
        .await
        .expect("created");

    let renames = (0..200).map(|n| {
        let (history, talk) = (history.clone(), talk.clone());
        async move {
            history
                .run(move |archive| archive.rename(&talk, &n.to_string()))
                .await
        }
    });
    for renamed in futures::future::join_all(renames).await {
        renamed.expect("renamed");
    }

    let id = talk.clone();
    let title = history
        .run(move |archive| Ok(archive.load(&id)?.title))
        .await
        .expect("loaded");
    assert_eq!(title, "199");
    let other = history.clone();
    history.close().await;
    assert_eq!(fixture.open().load(&talk).expect("loaded").title, "199");
    let late = other.run(|archive| archive.name()).await;
    assert!(matches!(late, Err(HistoryError::Gone)));
}

#[tokio::test]
async fn a_job_that_panics_is_told_to_all_that_follow() {
    let (history, _) = History::open(&Fixture::new().path(), 1).expect("opened");

    let panicked = history
        .run::<(), _>(|_| panic!("a bug, which this test wants"))
        .await;
    let next = history.run(|archive| archive.name()).await;

    assert!(matches!(panicked, Err(HistoryError::Gone)));
    assert!(matches!(next, Err(HistoryError::Gone)));
}

/// A folder of its own, gone at the end.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("history.db")
    }

    fn open(&self) -> Archive {
        let (archive, found) = Archive::open(&self.path(), 1).expect("opened");
        assert_eq!(found.set_aside, None);
        archive
    }

    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = fs::read_dir(self.folder.path())
            .expect("a folder")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        files.sort();
        files
    }

    /// Whether any of the files has these bytes.
    fn holds(&self, text: &str) -> bool {
        self.files().iter().any(|file| {
            let bytes = fs::read(self.folder.path().join(file)).expect("read");
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
    }
}

impl Archive {
    /// Compares each index with its table, too.
    fn check_all(&self) {
        let verdict: String = self
            .connection
            .query_one("PRAGMA integrity_check", (), |row| row.get(0))
            .expect("checked");
        assert_eq!(verdict, "ok");
    }
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;

    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("opened");
    file.write_all_at(bytes, at).expect("written");
}

fn said(archive: &mut Archive, talk: &ConversationId, question: &str, answer: &str) {
    let id = ask(archive, talk, question);
    archive.append(&id, answer).expect("appended");
    archive
        .end(&id, AnswerOutcome::Complete, None, 4)
        .expect("ended");
}

fn ask(archive: &mut Archive, talk: &ConversationId, text: &str) -> MessageId {
    let text = text.to_owned();
    let begun = archive.begin(&question(talk, QuestionWhat::New { text }), "Ann", 3);
    begun.expect("begun").answer
}

fn question(talk: &ConversationId, what: QuestionWhat) -> Question {
    let conversation = talk.clone();
    Question { conversation, what }
}

fn texts(archive: &Archive, talk: &ConversationId) -> Vec<String> {
    let messages = archive.load(talk).expect("loaded").messages;
    messages
        .into_iter()
        .map(|message| match message.body {
            MessageBody::Question { text, .. } | MessageBody::Answer { text, .. } => text,
            MessageBody::Notice { .. } => "notice".into(),
        })
        .collect()
}

const SAMPLING: Sampling = Sampling {
    temperature: 0.7,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.05,
    repetition_penalty: 1.05,
    seed: Some(1 << 53),
    max_tokens: 1024,
};

const SETTINGS: Settings = Settings {
    memory_limit_bytes: Some(1 << 33),
    battery_floor: 0.2,
    only_while_charging: true,
    use_metered: false,
    storage_quota_bytes: 1 << 34,
    keep_screen_on: true,
    visible: false,
};

fn figures() -> Figures {
    Figures {
        model_name: "SmolLM2".into(),
        ttft_s: 0.8,
        tokens_per_s: 12.5,
        prompt_tokens: 20,
        cached_tokens: 10,
        completion_tokens: 30,
        context_tokens: 2048,
        phones: vec!["Ann's phone".into(), "Sam's phone".into()],
        bytes_per_token: 4096,
    }
}
