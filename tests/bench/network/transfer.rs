//! How fast shards come: from one holder, from two, and after the receiver was killed half-way.

use std::time::Instant;

use netshim::Link;
use serde_json::Value;

use crate::bed::{Bed, options, until, with_model};
use crate::models;
use crate::node::{Node, Said};

/// A link of so many Mb/s, as far away as under `wifi`.
fn link(rate_mbps: f64) -> Link {
    Link {
        delay_ms: 5.0,
        jitter_ms: 2.0,
        loss: 0.0,
        rate_mbps: Some(rate_mbps),
        reorder: false,
    }
}

pub fn run(case: &str) {
    println!("\nShards of a Llama-1B shape in Q4_0, half of it or a third to each phone");
    let cases: [(&str, fn()); 3] = [
        ("one holder", one_holder),
        ("two holders", two_holders),
        ("killed half-way", killed_half_way),
    ];
    for (name, run) in cases {
        if name.contains(case) {
            run();
        }
    }
}

fn one_holder() {
    let (bytes, seconds) = fetch(2, &[0], 100.0);
    let rate = bytes * 8.0 / seconds / 1e6;
    println!(
        "  one holder, 100 Mb/s: {:.0} MB in {seconds:.1} s, {rate:.1} Mb/s: {rate:.1} % of the link",
        bytes / 1e6
    );
}

fn two_holders() {
    let (one_bytes, one_s) = fetch(2, &[0], 40.0);
    let (two_bytes, two_s) = fetch(3, &[0, 2], 40.0);
    let (one, two) = (one_bytes / one_s / 1e6, two_bytes / two_s / 1e6);
    println!(
        "  uplinks of 40 Mb/s: one holder {one:.2} MB/s, two {two:.2} MB/s, {:.2} times as fast",
        two / one
    );
}

/// Has the second phone fetch its part of an even split from those that hold the model; returns bytes and seconds.
fn fetch(n_phones: usize, holders: &[usize], rate_mbps: f64) -> (f64, f64) {
    let mut bed = bed(n_phones, holders, rate_mbps);
    bed.form();
    bed.until_planned();

    let said = bed.nodes[1].said();
    fetched(said).expect("it has fetched something")
}

fn bed(n_phones: usize, holders: &[usize], rate_mbps: f64) -> Bed {
    let model = models::llama_1b();
    let own = [
        "--placement",
        "even",
        "--spare",
        "0",
        "--context",
        "512",
        "--conversations",
        "1",
    ];
    let phones = (0..n_phones).map(|phone| match phone {
        0 => with_model(&model, n_phones, &own),
        _ if holders.contains(&phone) => {
            let path = model.to_str().expect("temporary folders have plain names");
            options(&[&["--model", path], &own[..]].concat())
        }
        _ => options(&own),
    });

    Bed::with_links(&phones.collect::<Vec<_>>(), link(rate_mbps))
}

/// Returns bytes and seconds between the first and the last word of progress.
fn fetched(said: &[Said]) -> Option<(f64, f64)> {
    let mut steps = said.iter().filter(|said| said.line["event"] == "preparing");
    let first = steps.next()?;
    let last = steps.rfind(|said| said.line["rate_bytes_per_s"] != 0)?;
    let bytes = done(&last.line) - done(&first.line);

    Some((bytes, (last.at - first.at).as_secs_f64()))
}

fn killed_half_way() {
    let mut bed = bed(2, &[0], 100.0);
    bed.form();
    let share = |node: &mut Node| {
        let last = node
            .said()
            .iter()
            .rfind(|said| said.line["event"] == "preparing");
        last.map_or((0.0, 0.0), |said| {
            (
                done(&said.line),
                said.line["total_bytes"].as_f64().unwrap_or(1.0),
            )
        })
    };
    let mut before = (0.0, 0.0);
    until("half of the shards are there", || {
        before = share(&mut bed.nodes[1]);
        before.1 > 0.0 && before.0 >= before.1 / 2.0
    });

    let receiver = bed.nodes.remove(1);
    receiver.kill();
    let sent = |bed: &Bed| bed.net.counters(0).expect("it is a phone").sent_bytes as f64;
    let (sent_before, killed) = (sent(&bed), Instant::now());
    let node = bed.start_as(1, &[]);
    bed.nodes.push(node);
    bed.until_planned_again();
    let again = sent(&bed) - sent_before;

    let (held, total) = before;
    println!(
        "  killed at {:.0} of {:.0} MB: whole {:.1} s later, {:.1} MB sent for the {:.1} MB that were missing ({:+.1} MB; what \
         frames and encryption add is 5 %)",
        held / 1e6,
        total / 1e6,
        killed.elapsed().as_secs_f64(),
        again / 1e6,
        (total - held) / 1e6,
        (again - (total - held)) / 1e6
    );
}

impl Bed {
    /// Waits until the second phone has a plan again.
    fn until_planned_again(&mut self) {
        self.nodes[1].until_event("plan");
    }
}

fn done(line: &Value) -> f64 {
    line["done_bytes"].as_f64().unwrap_or_default()
}
