//! A running chat while a shard streams, beside the same chat in quiet.

use std::thread;
use std::time::Duration;

use crate::bed::{Bed, Took, options, quantile, until, with_model};
use crate::models;

/// Tokens of a prompt and of an answer.
const PROMPT: u32 = 64;
const ANSWER: u32 = 24;

/// Questions, at most: fewer if the stream ends before.
const QUESTIONS: usize = 8;

/// Bytes of each phone: too few for the whole model, so that there are neighbours whose shards are kept at hand.
const MEMORY: &str = "1100000000";

/// Pause between questions during which shards stream as fast as they can.
const PAUSE: Duration = Duration::from_millis(2500);

pub fn run(_: &str) {
    println!(
        "\nA chat under wifi while a neighbour's shards stream (Llama-1B shape, Q4_0, two phones, prompts of {PROMPT} tokens)"
    );
    let quiet = chat("0", Duration::ZERO);
    let busy = chat("2000000000", Duration::ZERO);
    let paused = chat("2000000000", PAUSE);

    show("quiet", &quiet, &quiet);
    show("one question after the other", &busy, &quiet);
    show("each after a pause at full rate", &paused, &quiet);
}

fn show(what: &str, took: &[Took], quiet: &[Took]) {
    let firsts = |took: &[Took]| took.iter().map(|took| took.ttft_ms).collect::<Vec<_>>();
    let gaps = |took: &[Took]| {
        took.iter()
            .flat_map(|took| took.gaps_ms.clone())
            .collect::<Vec<_>>()
    };
    let row = |figure: &str, values: &[f64], quiet: &[f64]| {
        let [p50, p95] = [0.5, 0.95].map(|share| quantile(values, share));
        let [q50, q95] = [0.5, 0.95].map(|share| quantile(quiet, share));
        println!(
            "    {figure}: p50 {p50:.1} ms ({:.2}), p95 {p95:.1} ms ({:.2})",
            p50 / q50,
            p95 / q95
        );
    };

    println!("  {what}: {} answers", took.len());
    row("first token", &firsts(took), &firsts(quiet));
    row("a token", &gaps(took), &gaps(quiet));
}

/// Asks one question after the other, as long as shards stream where some do.
fn chat(spare: &str, pause: Duration) -> Vec<Took> {
    let model = models::llama_1b();
    let own = [
        "--memory-limit",
        MEMORY,
        "--spare",
        spare,
        "--context",
        "512",
        "--conversations",
        "1",
    ];
    // Slower, so that the first phone takes as much as it can, of which the other then keeps a part at hand.
    let slower = [&own[..], &["--slowdown", "2"]].concat();
    let mut bed = Bed::new(&[with_model(&model, 2, &own), options(&slower)]);
    bed.form();
    bed.until_planned();
    let streams = spare != "0";
    if streams {
        until("spare shards stream", || {
            (0..2).any(|phone| is_streaming(&mut bed, phone))
        });
    } else {
        bed.ask(PROMPT, ANSWER); // caches are warm, as they are later
    }

    let mut took = Vec::new();
    for i in 0..=QUESTIONS {
        thread::sleep(pause);
        if streams && !(0..2).any(|phone| is_streaming(&mut bed, phone)) {
            break;
        }
        let answer = bed.ask(PROMPT, ANSWER);
        if i > 0 || !streams {
            took.push(answer);
        }
    }
    took
}

/// Whether a phone lacks some of its neighbour's shards.
fn is_streaming(bed: &mut Bed, phone: usize) -> bool {
    let line = bed.last(phone, "preparing");

    line["spare"] == true && line["done_bytes"].as_u64() < line["total_bytes"].as_u64()
}
