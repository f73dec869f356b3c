//! A group writes what plain llama.cpp writes, token for token.
//!
//! "Plain" is the whole model in one context of this process, with llama.cpp's own batch of 512 where nothing
//! else is said; the group has separate processes, sockets between them, and prompts in chunks.

use std::path::Path;
use std::sync::OnceLock;

use libtest_mimic::Trial;
use serde_json::json;

use crate::group::{Group, Setup, go_on_from};
use crate::models::{
    GEMMA3, N_BATCH, Plain, SMOLLM2, TINY, Words, plain, tiny, tiny_prompt, trial, with_model,
};
use crate::scratch::Scratch;

/// Tokens that are compared.
const N_TOKENS: usize = 128;

const QUESTION: &str = "<|im_start|>user\nWhat is the capital of France, and why do people like to go there?<|im_end|>\n<|im_start|>assistant\n";

/// For Gemma 3 270M, which is no chat model: a beginning to go on from.
const BEGINNING: &str = "The three largest cities of France, and what people do there in summer:";

/// Phones among which a real model is shared.
const PHONE_COUNTS: [usize; 4] = [1, 2, 3, 5];

pub fn trials() -> Vec<Trial> {
    let smollm2 = PHONE_COUNTS.map(|n_phones| {
        let name = format!("exactness::smollm2_on_{n_phones}_phones");
        with_model(&name, SMOLLM2, move |model| smollm2_on(model, n_phones))
    });
    let tiny = TINY.map(|preset| {
        trial(&format!("exactness::{preset}_on_3_phones"), move || {
            tiny_on_3_phones(preset)
        })
    });
    let others = [
        with_model(
            "exactness::gemma3_cut_across_its_window_period",
            GEMMA3,
            gemma3_cut_across_its_window_period,
        ),
        with_model(
            "exactness::a_prompt_of_many_chunks",
            SMOLLM2,
            a_prompt_of_many_chunks,
        ),
        with_model(
            "exactness::relayed_headers_over_quic",
            SMOLLM2,
            relayed_headers_over_quic,
        ),
        with_model(
            "exactness::questions_at_the_same_time",
            SMOLLM2,
            questions_at_the_same_time,
        ),
        with_model(
            "exactness::an_answer_goes_on_where_it_broke_off",
            SMOLLM2,
            goes_on_where_it_broke_off,
        ),
        with_model(
            "exactness::a_follow_up_reads_only_what_is_new",
            SMOLLM2,
            a_follow_up,
        ),
    ];

    smollm2.into_iter().chain(tiny).chain(others).collect()
}

fn smollm2_on(model: &Path, n_phones: usize) {
    let scratch = Scratch::new();
    let expected = smollm2(model);
    let setup = Setup::new(model, n_phones, &[]);
    let mut group = Group::start(&scratch, &setup);

    let answer = group.ask(0, &go_on_from(&expected.prompt, N_TOKENS));

    assert_eq!(answer.tokens, expected.tokens);
    assert_eq!(answer.text, expected.text);
    let done = answer.assert_done();
    assert_eq!(done["finish"], "length");
    assert_eq!(done["prompt_tokens"], expected.prompt.len());
    assert_eq!(done["completion_tokens"], N_TOKENS);
    group.stop();
    scratch.assert_nothing_left();
}

/// Phones that have written nothing of it read what was written, and go on as if they had.
fn goes_on_where_it_broke_off(model: &Path) {
    let scratch = Scratch::new();
    let expected = smollm2(model);
    let mut group = Group::start(&scratch, &Setup::new(model, 2, &[]));

    for n_written in [40, 100, N_TOKENS - 1] {
        let mut question = go_on_from(&expected.prompt, N_TOKENS);
        question["written"] = json!(expected.tokens[..n_written]);
        let answer = group.ask(1, &question);

        assert_eq!(answer.tokens, expected.tokens[n_written..], "{n_written}");
        assert!(expected.text.ends_with(&answer.text), "{}", answer.text);
        let done = answer.assert_done();
        assert_eq!(done["completion_tokens"], N_TOKENS - n_written);
    }

    // All of it was written, and only its end was lost.
    let question = json!({
        "prompt": { "chat": [{ "role": "user", "content": "Say hello." }] },
        "max_tokens": N_TOKENS,
        "sampling": {},
        "stop": ["!"],
    });
    let whole = group.ask(0, &question);
    assert_eq!(whole.assert_done()["finish"], "stop");
    let mut again = question.clone();
    again["written"] = json!(whole.tokens);
    let end = group.ask(0, &again);
    assert_eq!(
        (end.text.as_str(), &end.assert_done()["finish"]),
        ("", &json!("stop"))
    );

    // No token of this model.
    again["written"] = json!([u32::MAX]);
    group.ask(0, &again).assert_failed(&["there is no token"]);
    assert_eq!(group.ask(0, &question).text, whole.text);
    group.stop();
}

/// 18 layers, of which each sixth sees everything: four shards of 4 or 5 layers, so that stages begin and
/// end within a period.
fn gemma3_cut_across_its_window_period(model: &Path) {
    let scratch = Scratch::new();
    let words = Words::of(model);
    let prompt = words.tokens(BEGINNING);
    let expected = plain(model, &prompt, N_TOKENS);
    let setup = Setup::new(model, 3, &["--shards", "4"]);
    let mut group = Group::start(&scratch, &setup);

    let answer = group.ask(0, &go_on_from(&prompt, N_TOKENS));

    assert_eq!(answer.tokens, expected);
    assert_eq!(answer.text, words.text(&expected));
    group.stop();
}

/// The prompt is longer than the window of those that have one.
fn tiny_on_3_phones(preset: &str) {
    let scratch = Scratch::new();
    let model = tiny(&scratch, preset);
    let prompt = tiny_prompt(90);
    let expected = plain(&model, &prompt, N_TOKENS);
    let setup = Setup::new(&model, 3, &[]);
    let mut group = Group::start(&scratch, &setup);

    let answer = group.ask(0, &go_on_from(&prompt, N_TOKENS));

    assert_eq!(answer.tokens, expected);
    assert_ne!(
        expected[..N_TOKENS / 2],
        expected[N_TOKENS / 2..],
        "a text that repeats shows little"
    );
    group.stop();
}

/// Chunks follow each other round the ring; plain llama.cpp reads batches of as many tokens, one after the other.
fn a_prompt_of_many_chunks(model: &Path) {
    let scratch = Scratch::new();
    let words = Words::of(model);
    let prompt = words.tokens(&QUESTION.repeat(6));
    assert!(
        prompt.len() > 8 * 16,
        "{} tokens are not many chunks",
        prompt.len()
    );
    let expected = Plain::load(model, 16).answer(&prompt, N_TOKENS);
    let setup = Setup::new(model, 3, &["--chunk", "16"]);
    let mut group = Group::start(&scratch, &setup);

    let answer = group.ask(0, &go_on_from(&prompt, N_TOKENS));

    assert_eq!(answer.tokens, expected);
    group.stop();
}

fn relayed_headers_over_quic(model: &Path) {
    let scratch = Scratch::new();
    let expected = smollm2(model);
    let quic = [
        "--listen",
        "/ip4/127.0.0.1/udp/0/quic-v1",
        "--relay-headers",
    ];
    let setup = Setup::new(model, 3, &quic);
    let mut group = Group::start(&scratch, &setup);
    assert!(
        group.phone(2).address.contains("/quic-v1/"),
        "{}",
        group.phone(2).address
    );

    let answer = group.ask(2, &go_on_from(&expected.prompt, N_TOKENS));

    assert_eq!(answer.tokens, expected.tokens);
    group.stop();
}

/// Six questions from three phones, in four sequences: two have to wait. Nothing is mixed up.
fn questions_at_the_same_time(model: &Path) {
    let scratch = Scratch::new();
    let words = Words::of(model);
    let prompts = ["cats", "rivers", "bread", "the Moon", "chess", "Vienna"].map(|topic| {
        words.tokens(&QUESTION.replace(
            "the capital of France, and why do people like to go there",
            topic,
        ))
    });
    let n_tokens = N_TOKENS / 2;
    let mut plain = Plain::load(model, N_BATCH);
    let expected = prompts
        .each_ref()
        .map(|prompt| plain.answer(prompt, n_tokens));
    let setup = Setup::new(model, 3, &["--conversations", "4"]);
    let mut group = Group::start(&scratch, &setup);

    for (i, prompt) in prompts.iter().enumerate() {
        group
            .phone(i % 3)
            .ask(i as u64, &go_on_from(prompt, n_tokens));
    }
    let answers = [0, 1, 2, 3, 4, 5].map(|i| group.phone(i % 3).answer(i as u64));

    for (answer, expected) in answers.iter().zip(&expected) {
        answer.assert_done();
        assert_eq!(&answer.tokens, expected);
    }
    group.stop();
}

/// The second turn begins with all of the first, whose cache is still there. Plain llama.cpp goes on from its own
/// cache too: one that had read everything anew would differ in last bits, as its kernels for one row and for many do.
fn a_follow_up(model: &Path) {
    let scratch = Scratch::new();
    let words = Words::of(model);
    let prompt = &smollm2(model).prompt;
    let n_first = 40;
    let mut plain = Plain::load(model, N_BATCH);
    let said = plain.answer(prompt, n_first);
    let (read, last) = said.split_at(n_first - 1);
    let then = words
        .tokens("<|im_end|>\n<|im_start|>user\nAnd of Italy?<|im_end|>\n<|im_start|>assistant\n");
    let new = [last, &then].concat();
    let expected = plain.go_on(&new, N_TOKENS);
    let setup = Setup::new(model, 3, &[]);
    let mut group = Group::start(&scratch, &setup);

    let first = group.ask(0, &go_on_from(prompt, n_first));
    let second = group.ask(1, &go_on_from(&[prompt, read, &new].concat(), N_TOKENS));

    assert_eq!(first.tokens, said);
    assert_eq!(second.tokens, expected);
    let done = second.assert_done();
    assert_eq!(done["cached_tokens"], prompt.len() + read.len());
    assert_eq!(done["prompt_tokens"], prompt.len() + read.len() + new.len());
    group.stop();
}

/// A prompt, and what plain llama.cpp writes after it.
pub struct Expected {
    pub prompt: Vec<u32>,
    pub tokens: Vec<u32>,
    pub text: String,
}

/// Returns what SmolLM2 writes when it is asked the question; computed once for all tests.
pub fn smollm2(model: &Path) -> &'static Expected {
    static EXPECTED: OnceLock<Expected> = OnceLock::new();

    EXPECTED.get_or_init(|| {
        let words = Words::of(model);
        let prompt = words.tokens(QUESTION);
        let tokens = plain(model, &prompt, N_TOKENS);
        let text = words.text(&tokens);

        Expected {
            prompt,
            tokens,
            text,
        }
    })
}
