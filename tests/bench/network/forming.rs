//! From bare phones, one of which has the file, to the first token: what each part of it takes.

use std::time::Instant;

use serde_json::json;

use crate::bed::{Bed, ms, options, until, with_model};
use crate::group::PATIENCE;
use crate::models;

/// Phones.
const PHONES: usize = 3;

/// Tokens of the first question.
const PROMPT: u32 = 32;

pub fn run(_: &str) {
    let Some(model) = models::smollm2() else {
        return println!("SmolLM2 is left out: `.ci/models smollm2` fetches it");
    };
    println!(
        "\nFrom {PHONES} bare phones, one with SmolLM2, 250 MB each, to the first token: wifi"
    );
    let own = ["--memory-limit", "250000000", "--spare", "0"];
    let phones = (0..PHONES).map(|phone| match phone {
        0 => with_model(&model, PHONES, &own),
        _ => options(&own),
    });
    let mut bed = Bed::new(&phones.collect::<Vec<_>>());

    let started = Instant::now();
    for _ in 0..PHONES {
        bed.start(&[]);
    }
    let host = bed.nodes[0].peer.clone();
    let up = started.elapsed();
    for phone in 1..PHONES {
        bed.nodes[phone].until(PATIENCE, |line| {
            line["event"] == "nearby" && line["peer"] == host.as_str()
        });
    }
    let found = started.elapsed();
    for phone in 1..PHONES {
        bed.nodes[phone].tell(&json!({ "command": "tap", "peer": host }));
    }
    until("all are members", || bed.nodes[0].members().len() == PHONES);
    let consented = started.elapsed();
    let planned = bed.nodes[0].until_event("planned").at - started;
    bed.until_planned();
    let in_force = bed.last_at("plan") - started;
    let streamed = bed.last_at("preparing") - started;
    let took = bed.ask(PROMPT, 8);

    let steps = [
        ("processes started, identity made, listening", up),
        ("found each other", found),
        ("consented: codes, both sides, roster", consented),
        ("measured phones and links, solved the placement", planned),
        ("streamed, checked and written", streamed),
        ("loaded, all ready", in_force),
    ];
    let mut before = 0.0;
    for (what, at) in steps {
        println!("  {:7.0} ms  {what}", ms(at) - before);
        before = ms(at);
    }
    println!(
        "  {:7.0} ms  first token of a prompt of {PROMPT}",
        took.ttft_ms
    );
    println!("  {:7.0} ms  in all", before + took.ttft_ms);
}

impl Bed {
    /// When the last line of a kind came from any phone.
    fn last_at(&mut self, event: &str) -> Instant {
        let last = self.nodes.iter_mut().filter_map(|node| {
            let said = node
                .said()
                .iter()
                .rfind(|said| said.line["event"] == event)?;
            Some(said.at)
        });

        last.max().expect("some phone said so")
    }
}
