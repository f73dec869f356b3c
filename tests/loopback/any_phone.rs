//! Whichever phone is asked, by its own screen or by a guest, the answer is the same.

use std::path::Path;

use libtest_mimic::Trial;
use serde_json::json;

use crate::group::{Group, Setup, go_on_from};
use crate::models::{SMOLLM2, tiny, tiny_prompt, trial, with_model};
use crate::program::Program;
use crate::scratch::Scratch;

const QUESTION: &str = "Name three rivers of Europe.";
const MAX_TOKENS: u32 = 24;

pub fn trials() -> Vec<Trial> {
    vec![
        with_model(
            "any_phone::guests_of_any_phone_read_the_same",
            SMOLLM2,
            guests_of_any_phone,
        ),
        trial(
            "any_phone::each_phone_asked_by_its_own_screen",
            each_phone_asked_by_its_own_screen,
        ),
        trial("any_phone::everybody_at_once", everybody_at_once),
        trial(
            "any_phone::a_question_that_is_cancelled_ends",
            a_question_that_is_cancelled_ends,
        ),
        trial(
            "any_phone::open_questions_keep_their_number",
            open_questions_keep_their_number,
        ),
    ]
}

/// The head's guests, another phone's guests, for people and for programs, all at once.
fn guests_of_any_phone(model: &Path) {
    let scratch = Scratch::new();
    let setup = Setup::new(model, 3, &[]);
    let mut group = Group::start(&scratch, &setup);
    let chat = json!({
        "prompt": { "chat": [{ "role": "user", "content": QUESTION }] },
        "max_tokens": MAX_TOKENS,
        "sampling": {},
        "stop": [],
    });
    let expected = group.ask(0, &chat).text;
    let max_tokens = MAX_TOKENS.to_string();

    let guests = [0, 1, 2].map(|phone| {
        let address = group.phone(phone).local.clone();
        let asked = [
            "chat",
            "--to",
            &address,
            QUESTION,
            "--max-tokens",
            &max_tokens,
        ];
        let for_people = Program::start(&scratch, &asked);
        let for_programs = Program::start(&scratch, &[&asked[..], &["--json"]].concat());
        (for_people, for_programs)
    });

    assert!(expected.len() > 40, "{expected:?} is no answer");
    for (for_people, for_programs) in guests {
        let (for_people, for_programs) = (for_people.end(), for_programs.end());
        assert_eq!(for_people.status, 0, "{for_people:#?}");
        assert_eq!(for_people.stdout.join("\n"), expected);
        for_people.assert_quiet();
        assert_eq!(for_programs.status, 0, "{for_programs:#?}");
        let done = for_programs.lines().last().expect("it said something");
        assert_eq!(
            (&done["event"], &done["text"]),
            (&json!("done"), &json!(expected))
        );
    }
    group.stop();
}

fn each_phone_asked_by_its_own_screen() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-qwen3");
    let setup = Setup::new(&model, 4, &["--conversations", "2"]);
    let mut group = Group::start(&scratch, &setup);
    let question = go_on_from(&tiny_prompt(30), 40);

    let answers = [0, 1, 2, 3].map(|phone| group.ask(phone, &question));

    for answer in &answers {
        answer.assert_done();
        assert_eq!(answer.tokens, answers[0].tokens);
    }
    group.stop();
}

/// Eight who have not spoken to the head before, all in the same moment: a question or an answer that
/// is lost would be waited for for ever.
fn everybody_at_once() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 4, &["--conversations", "2"]);
    let mut group = Group::start(&scratch, &setup);
    let head = group.phone(0).local.clone();
    let question = go_on_from(&tiny_prompt(10), 20);

    let asking = [0; 4].map(|_| {
        let chat = [
            "chat",
            "--json",
            "--to",
            &head,
            "hello",
            "--max-tokens",
            "20",
        ];
        Program::start(&scratch, &chat)
    });
    for phone in 0..4 {
        group.phone(phone).ask(1, &question);
    }

    let answers = [0, 1, 2, 3].map(|phone| group.phone(phone).answer(1));
    for answer in &answers {
        answer.assert_done();
        assert_eq!(answer.tokens, answers[0].tokens);
    }
    for guest in asking {
        assert_eq!(guest.end().status, 0);
    }
    group.stop();
}

/// An answer that would last for minutes, asked of a phone that is not the head.
fn a_question_that_is_cancelled_ends() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let slow = ["--slowdown", "100", "--conversations", "1"];
    let setup = Setup::new(&model, 3, &slow);
    let mut group = Group::start(&scratch, &setup);
    let phone = group.phone(1);
    phone.ask(1, &go_on_from(&tiny_prompt(30), 2000));
    phone.ask(2, &go_on_from(&tiny_prompt(20), 5));
    phone.wait_for_word(1);

    phone.program.tell(&json!({ "command": "cancel", "id": 1 }));
    let (cancelled, next) = (phone.answer(1), phone.answer(2));

    assert_eq!(cancelled.assert_done()["finish"], "cancelled");
    assert_eq!(next.assert_done()["finish"], "length");
    assert_eq!(next.tokens.len(), 5);
    group.stop();
}

fn open_questions_keep_their_number() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 1, &["--slowdown", "20"]);
    let mut group = Group::start(&scratch, &setup);
    let phone = group.phone(0);
    let question = go_on_from(&tiny_prompt(30), 50);

    phone.ask(7, &question);
    phone.ask(7, &question);
    let refused = phone.program.until_event("error");
    let answer = phone.answer(7);
    let again = group.ask(0, &question);

    assert!(
        refused.get("id").is_none(),
        "{refused} would end the answer"
    );
    answer.assert_done();
    assert_eq!(answer.tokens, again.tokens);
    group.stop();
}
