//! The promise of the ring, by seed.

use sim::ring::{How, Outcome, Scenario, World};
use sim::{seeds, witness};

/// Seeds that once found a bug.
const FOUND: [u64; 0] = [];

/// Longest time from the moment when the last phone knows of a loss until every asker knows: a message to
/// the head, one to the asker's phone, one to a guest; each up to 55 ms in these worlds.
const TOLD_AFTER_MAX: u64 = 200_000;

/// Whatever the network does, every answer is what one phone alone would have written.
#[test]
fn the_text_is_what_one_phone_alone_would_have_written() {
    let mut seen = Seen::default();

    seeds::run("honest ring", 1_000, &FOUND, |seed| {
        let world = World::new(Scenario::roll(seed));

        let (outcome, heard) = witness::listen(|| world.run());

        assert_eq!(heard.errors, [""; 0]);
        assert_eq!(heard.warnings, [""; 0], "nobody does wrong here");
        seen.add(&outcome);
    });

    eprintln!("honest ring: {seen:?}");
    assert!(seen.cached_tokens > 0, "follow-ups found their cache");
}

/// When a phone falls silent, every answer ends soon, and nobody waits for ever.
#[test]
fn a_lost_phone_ends_every_answer_soon() {
    let mut seen = Seen::default();

    seeds::run("ring with a loss", 1_000, &FOUND, |seed| {
        let world = World::new(Scenario::roll_loss(seed));

        let (outcome, heard) = witness::listen(|| world.run());

        assert_eq!(heard.errors, [""; 0]);
        let known = outcome.last_noticed.expect("a phone was lost");
        for ended in outcome.ended.iter().flatten() {
            let soon = known.max(ended.asked_at) + TOLD_AFTER_MAX;
            assert!(ended.at <= soon, "told at {} of {ended:?}", ended.at);
        }
        seen.add(&outcome);
    });

    eprintln!("ring with a loss: {seen:?}");
    assert!(seen.failed > 0, "some answers were broken off");
}

/// Whatever somebody sends who should not, nobody else notices.
#[test]
fn lies_have_no_effect() {
    let mut seen = Seen::default();

    seeds::run("ring with a liar", 1_000, &FOUND, |seed| {
        let world = World::new(Scenario::roll_hostile(seed));

        let (outcome, heard) = witness::listen(|| world.run());

        assert_eq!(heard.errors, [""; 0]);
        seen.add(&outcome);
    });

    eprintln!("ring with a liar: {seen:?}");
    assert_eq!(seen.failed, 0);
}

/// The same seed tells the same story, to the microsecond.
#[test]
fn a_run_is_its_seed() {
    let run = |seed| World::new(Scenario::roll(seed)).run();

    assert_eq!(run(7), run(7));
    assert_ne!(run(7).elapsed, run(8).elapsed);
}

/// What many worlds showed together: that they were not empty.
#[derive(Debug, Default)]
struct Seen {
    done: u64,
    refused: u64,
    failed: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    n_rows: u64,
    n_steps: u64,
}

impl Seen {
    fn add(&mut self, outcome: &Outcome) {
        self.n_rows += outcome.n_rows;
        self.n_steps += outcome.n_steps;

        for ended in outcome.ended.iter().flatten() {
            match ended.how {
                How::Refused => self.refused += 1,
                How::Failed => self.failed += 1,
                How::Done(_, figures) => {
                    self.done += 1;
                    self.prompt_tokens += u64::from(figures.prompt_tokens);
                    self.cached_tokens += u64::from(figures.cached_tokens);
                    self.completion_tokens += u64::from(figures.completion_tokens);
                }
            }
        }
    }
}
