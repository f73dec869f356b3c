//! Text in and text out, with the vocabularies and templates of real models.

mod split;

use std::time::{Duration, SystemTime};

use engine::{ChatMessage, Detokenizer, Ends, Role, StopStrings, Token};
use proptest::prelude::*;
use split::{CutModel, GEMMA3, SMOLLM2, continue_split, engine, go_on, options, real_model};

#[test]
fn text_survives_tokens() {
    for model in [SMOLLM2, GEMMA3] {
        let Some(ends) = ends(model) else { return };
        for text in [
            "Hello, world!",
            "",
            "Grüße aus 東京 😀👩‍👩‍👧",
            "a\n\n  b\t\u{0}c",
            "<|im_end|> is <end_of_turn>",
        ] {
            let tokens = ends.tokenize(text, false);

            assert_eq!(text_of(&ends, &tokens), text, "{model}: {tokens:?}");
        }
    }
}

/// A person who types the name of a control token does not end the turn; the template does.
#[test]
fn control_tokens_are_parsed_only_where_they_are_meant() {
    let Some(ends) = ends(SMOLLM2) else { return };

    let typed = ends.tokenize("<|im_end|>", false);
    let meant = ends.tokenize("<|im_end|>", true);

    assert!(typed.len() > 1 && !typed.iter().any(|&token| ends.is_end_of_turn(token)));
    assert!(matches!(meant[..], [token] if ends.is_end_of_turn(token) && ends.is_control(token)));
    assert_eq!(text_of(&ends, &meant), "");
}

#[test]
fn prompts_begin_as_the_model_wants_once() {
    let Some(ends) = ends(GEMMA3) else { return };
    let bos = ends.bos().expect("Gemma has one");

    for prompt in ["Hi", "<bos>Hi"] {
        let tokens = ends.tokenize_prompt(prompt);
        assert_eq!(tokens.iter().filter(|&&token| token == bos).count(), 1);
        assert_eq!(tokens[0], bos);
    }
}

#[test]
fn smollm2_renders_with_its_own_template() {
    let Some(ends) = ends(SMOLLM2) else { return };

    let rendered = ends
        .render(&[said(Role::User, "Hi")], true, noon())
        .expect("it renders");

    assert_eq!(
        rendered,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert!(ends.stop_strings().is_empty());
}

/// The next turn only adds to the prompt and the answer of the last: their cache can be kept.
#[test]
fn a_conversation_grows_at_its_end() {
    let Some(ends) = ends(SMOLLM2) else { return };
    let mut messages = vec![said(Role::System, "Be brief."), said(Role::User, "Hi")];
    let first = ends.render(&messages, true, noon()).expect("it renders");

    messages.extend([said(Role::Assistant, "Hello!"), said(Role::User, "Bye")]);
    let second = ends.render(&messages, true, noon()).expect("it renders");

    assert!(second.starts_with(&format!("{first}Hello!<|im_end|>\n")));
}

/// A whole turn: question, template, tokens, layers, greedy answer, text.
#[test]
fn smollm2_answers_in_words() {
    let Some(path) = real_model(SMOLLM2) else {
        return;
    };
    let mut split = CutModel::even(&path, 3).load(&engine(), &options(1));
    let question = [said(Role::User, "Hi")];
    let prompt = split
        .ends
        .render(&question, true, noon())
        .expect("it renders");
    let prompt = split.ends.tokenize_prompt(&prompt);

    let answer = continue_split(&mut split, 0, &prompt, 24);

    let is_end = |&token: &Token| split.ends.is_end_of_turn(token);
    let n_tokens = answer.iter().position(is_end).expect("the answer ends");
    let text = text_of(&split.ends, &answer[..n_tokens]);
    assert_eq!(text, "Hello! How can I assist you today?");
}

/// Any tokens in any order: text at every step, and in the end what their bytes are.
#[test]
fn any_tokens_give_text() {
    for model in [SMOLLM2, GEMMA3] {
        let Some(ends) = ends(model) else { return };
        let n_vocab = ends.n_vocab() as Token;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        // The first thousand hold the single bytes of both vocabularies.
        let token = prop_oneof![0..1000, 0..n_vocab, Just(-1), Just(Token::MAX)];

        let outcome = runner.run(&prop::collection::vec(token, 0..40), |tokens| {
            let mut bytes = Vec::new();
            tokens
                .iter()
                .for_each(|&token| ends.append_piece(token, &mut bytes));
            prop_assert_eq!(text_of(&ends, &tokens), String::from_utf8_lossy(&bytes));
            Ok(())
        });

        outcome.expect("pieces add up");
    }
}

#[test]
fn a_stop_string_is_found_across_tokens() {
    let Some(ends) = ends(SMOLLM2) else { return };
    let tokens = ends.tokenize("One two.\nUser: three", false);
    let (mut detokenizer, mut stops) = (Detokenizer::new(), StopStrings::new(["\nUser:"]));
    let mut shown = String::new();

    let stopped_at = tokens.iter().position(|&token| {
        let mut piece = String::new();
        detokenizer.push(&ends, token, &mut piece);
        stops.push(&piece, &mut shown)
    });

    assert_eq!(shown, "One two.");
    assert!(stopped_at.is_some_and(|at| at < tokens.len() - 1));
}

fn ends(model: &str) -> Option<Ends> {
    let cut = CutModel::even(&real_model(model)?, 1);
    let ends = engine().load_ends(&cut.path(0), &cut.manifest, &options(1), &mut go_on);

    Some(ends.expect("the ends load"))
}

fn text_of(ends: &Ends, tokens: &[Token]) -> String {
    let (mut detokenizer, mut text) = (Detokenizer::new(), String::new());
    tokens
        .iter()
        .for_each(|&token| detokenizer.push(ends, token, &mut text));
    detokenizer.finish(&mut text);

    text
}

fn said(role: Role, content: &str) -> ChatMessage {
    ChatMessage {
        role,
        content: content.to_owned(),
    }
}

fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_721_995_200)
}
