//! Shards on a phone's disk: what is missing or damaged comes from the model or from another phone, and what is not
//! right is never run.

use std::fs;
use std::path::{Path, PathBuf};

use gguf_tools::{Shape, Synth, TensorType};
use libtest_mimic::Trial;

use crate::group::{self, Group, Phone, Setup, go_on_from};
use crate::models::{tiny, tiny_prompt, trial};
use crate::scratch::Scratch;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("shards::damaged_and_mended", a_damaged_shard_is_mended),
        trial("shards::without_a_model", a_phone_without_a_model),
        trial("shards::of_another_model", a_phone_with_another_model),
    ]
}

/// A shard that was damaged, cut short or deleted is cut anew from the model, to the last byte.
fn a_damaged_shard_is_mended() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 2, &[]);
    let question = go_on_from(&tiny_prompt(20), 20);
    let mut group = Group::start(&scratch, &setup);
    let before = group.ask(0, &question).tokens;
    group.stop();
    let shard = a_shard_of(&scratch, 1);
    let sound = fs::read(&shard).expect("just listed");

    for damage in [flip_a_byte, cut_short, delete] {
        damage(&shard);
        let mut group = Group::start(&scratch, &setup);

        assert_eq!(group.ask(1, &question).tokens, before);
        assert!(
            fs::read(&shard).expect("it is back") == sound,
            "another file"
        );
        group.stop();
    }
}

/// A phone without the model gets what it lacks from one that has it: all, or what was damaged.
fn a_phone_without_a_model() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let setup = Setup::new(&model, 2, &[]);
    let question = go_on_from(&tiny_prompt(20), 20);
    let answers = |damage: Option<fn(&Path)>| {
        if let Some(damage) = damage {
            damage(&a_shard_of(&scratch, 1));
        }
        let mut leader = Phone::lead(&scratch, &setup);
        let mut member = Phone::join_without_model(&scratch, 1, &leader.address);
        leader.program.until_event("plan");
        member.program.until_event("plan");
        member.ask(0, &question);
        let answer = member.answer(0);
        answer.assert_done();
        for phone in [leader, member] {
            assert_eq!(phone.end().status, 0);
        }
        answer.tokens
    };

    let before = answers(None);
    let sound = fs::read(a_shard_of(&scratch, 1)).expect("it was fetched");

    for damage in [flip_a_byte, cut_short, delete] {
        assert_eq!(answers(Some(damage)), before);
        let mended = fs::read(a_shard_of(&scratch, 1)).expect("it is back");
        assert!(mended == sound, "another file");
    }
}

/// What a phone's own file would give is another model's: it fetches the group's.
fn a_phone_with_another_model() {
    let scratch = Scratch::new();
    let model = tiny(&scratch, "tiny-llama");
    let other = scratch.path("other.gguf");
    let shape = Shape::preset("tiny-llama").expect("the preset exists");
    let synth = Synth::new(shape, TensorType::Q8_0, 2);
    synth
        .write_file(&other, &mut |_| {})
        .expect("there is room for the model");
    let setup = Setup::new(&model, 2, &[]);
    let question = go_on_from(&tiny_prompt(20), 20);
    let mut group = Group::start(&scratch, &setup);
    let expected = group.ask(0, &question).tokens;
    group.stop();
    delete(&a_shard_of(&scratch, 1));

    let mut leader = Phone::lead(&scratch, &setup);
    let other = Setup {
        model: &other,
        ..setup
    };
    let mut member = Phone::join(&scratch, &other, 1, &leader.address);
    leader.program.until_event("plan");
    member.program.until_event("plan");
    leader.ask(0, &question);

    assert_eq!(leader.answer(0).tokens, expected);
    for phone in [leader, member] {
        assert_eq!(phone.end().status, 0);
    }
}

/// Returns the largest shard on a phone.
fn a_shard_of(scratch: &Scratch, phone: usize) -> PathBuf {
    let folder = group::data_folder(scratch, phone).join("shards");
    let files = fs::read_dir(folder)
        .expect("it has shards")
        .map(|file| file.expect("readable"));

    files
        .max_by_key(|file| file.metadata().expect("readable").len())
        .expect("it has shards")
        .path()
}

fn flip_a_byte(shard: &Path) {
    let mut bytes = fs::read(shard).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(shard, bytes).expect("it is ours");
}

fn cut_short(shard: &Path) {
    let bytes = fs::read(shard).expect("it is there");
    fs::write(shard, &bytes[..bytes.len() - 1]).expect("it is ours");
}

fn delete(shard: &Path) {
    fs::remove_file(shard).expect("it is there");
}
