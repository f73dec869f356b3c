//! Shards that stream over a slow link, and what happens meanwhile: a disk that fills, a question, a phone that gets hot.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use gguf_tools::{Shape, Synth, TensorType};
use netshim::{Link, Profile};
use serde_json::{Value, json};

use crate::group::{Group, PATIENCE, question};
use crate::{Test, TestResult};

/// What this file shows.
pub const TESTS: &[Test] = &[
    ("a_disk_fills_while_shards_stream", a_disk_fills, &[]),
    (
        "who_asks_while_shards_stream_is_answered",
        asked_meanwhile,
        &[],
    ),
    (
        "a_model_that_is_moved_while_shards_stream_goes_on_streaming",
        moved,
        &[],
    ),
    (
        "a_phone_that_is_too_hot_is_left_out_of_the_next_plan",
        too_hot,
        &[],
    ),
];

/// Such a link takes some seconds for a third of the model.
const SLOW_LINK: Link = Link {
    rate_mbps: Some(20.0),
    ..Profile::Wifi.link()
};

/// Bytes of the disk that fills: what a phone leaves to others (256 MiB), its shards, and some more.
const DISK: &str = "size=340m";

/// Little context, so that the model is what takes room.
const SMALL: &[&str] = &["--context", "256", "--conversations", "1", "--spare", "0"];

/// A phone's disk is full in the middle of a transfer: it says so, is left out, the others answer, and no shard on that
/// disk is there by its name that is not whole.
fn a_disk_fills() -> TestResult {
    let mut group = slow_group(3);
    let model = model(group.folder());
    lead(&mut group, &model, 3, "even");
    let disk = Disk::mount(&group.data_folder(1));
    group.join(1);
    group.join(2);

    group
        .node(1)
        .until(PATIENCE, |line| is_streaming(line, 0.2));
    disk.fill();
    let failed = group.node(0).until(PATIENCE, |line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["event"] == "error" && message.contains("storage")
    });
    let plan = group.node(0).until_event("plan").line;

    println!("  it says: {}", failed.line["message"]);
    let message = failed.line["message"].to_string();
    assert!(
        message.contains("phone-1") && message.contains("make room"),
        "{message}"
    );
    assert!(!plan["stages"].to_string().contains("phone-1"), "{plan}");
    let answers = [0, 2, 1].map(|phone| group.ask_until_answered(phone, 1, &question(8), PATIENCE));
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    let shards = fs::read_dir(group.data_folder(1).join("shards"))?;
    for file in shards.flatten().filter(|file| is_whole(&file.path())) {
        let whole = group.data_folder(2).join("shards").join(file.file_name());
        if let Ok(whole) = fs::read(whole) {
            assert!(
                fs::read(file.path())? == whole,
                "{:?} is not whole",
                file.path()
            );
        }
    }
    group.end();
    drop(disk);
    Ok(())
}

/// Whoever asks while the next plan is being prepared is told to wait, and answered by it.
fn asked_meanwhile() -> TestResult {
    let mut group = slow_group(3);
    let model = model(group.folder());
    lead(&mut group, &model, 2, "even");
    group.join(1);
    let expected = group.ask_until_answered(0, 1, &question(8), PATIENCE);

    group.join(2);
    group
        .node(2)
        .until(PATIENCE, |line| is_streaming(line, 0.1));
    for phone in [0, 1] {
        group.node(phone).ask(500, &question(8));
        group.node(phone).until(PATIENCE, |line| {
            line["event"] == "queued" && line["id"] == 500
        });
    }
    group.node(2).until_event("plan");

    for phone in [0, 1] {
        let answer = group.node(phone).answer(500, PATIENCE);
        answer.assert_done();
        assert_eq!(answer.tokens, expected, "phone {phone}");
    }
    group.end();
    Ok(())
}

/// Where the head's model lies may change, and what else it has, while others fetch their shards from it.
fn moved() -> TestResult {
    let mut group = slow_group(2);
    let model = model(group.folder());
    lead(&mut group, &model, 2, "even");
    group.join(1);
    group
        .node(1)
        .until(PATIENCE, |line| is_streaming(line, 0.1));

    let elsewhere = group.folder().join("elsewhere.gguf");
    fs::hard_link(&model, &elsewhere)?;
    let order = json!({ "command": "set_model", "path": elsewhere });
    group.node(0).tell(&order);
    group.node(0).tell(&order);

    let next = group.node(0).until(PATIENCE, |line| {
        line["event"] == "plan" || line["event"] == "error"
    });
    assert_eq!(next.line["event"], "plan", "{}", next.line);
    group.ask_until_answered(1, 1, &question(8), PATIENCE);
    group.end();
    Ok(())
}

/// A phone says from time to time how it is, and the plan goes by that: hot it keeps half of its layers, too hot none.
fn too_hot() -> TestResult {
    let mut group = slow_group(3);
    group.net.set_profile(Profile::Wifi)?;
    let model = model(group.folder());
    let script = group.folder().join("hot.json");
    let scene = |at_s: u32, thermal: &str| json!({ "at_s": at_s, "free_bytes": 4_000_000_000_u64, "budget_bytes": 1_000_000_000, "thermal": thermal });
    fs::write(
        &script,
        json!([
            scene(0, "nominal"),
            scene(15, "serious"),
            scene(75, "critical")
        ])
        .to_string(),
    )?;
    let script = script.to_str().expect("temporary folders have plain names");

    // Too little for the whole model: another phone has to take a part.
    lead_with(
        &mut group,
        &model,
        2,
        "best",
        &["--memory-limit", "85000000"],
    );
    let began = std::time::Instant::now();
    group.join_with(1, &["--device-script", script]);
    let plan = group.node(0).until_event("plan").line;
    let all = layers_of(&plan, "phone-1");
    assert!(all > 0, "{plan}");

    std::thread::sleep(std::time::Duration::from_secs(27).saturating_sub(began.elapsed())); // it looks how it is every 10 s
    group.join(2);
    let plan = group.node(0).until(PATIENCE, |line| {
        line["event"] == "plan" && layers_of(line, "phone-2") > 0
    });
    let half = layers_of(&plan.line, "phone-1"); // or none, where the newcomer takes all of it
    assert!(half <= all / 2, "{}", plan.line);
    group.node(0).ask(1, &question(8));
    group.node(0).answer(1, PATIENCE).assert_done();

    group.node(0).until(2 * PATIENCE, |line| {
        line["event"] == "planned" && reason_of(line, "phone-1").contains("too hot")
    });
    if half > 0 {
        group.node(0).until(PATIENCE, |line| {
            line["event"] == "plan" && layers_of(line, "phone-1") == 0
        });
    }
    group.end();
    Ok(())
}

/// Returns why a phone has got what it has by a `planned` line.
fn reason_of(planned: &Value, phone: &str) -> String {
    let reasons = planned["reasons"].as_array().into_iter().flatten();
    let mut of_phone = reasons.filter(|reason| reason["phone"] == phone);

    of_phone
        .next()
        .map_or(String::new(), |reason| reason["reason"].to_string())
}

/// Returns how many layers a phone runs by a `plan` line.
fn layers_of(plan: &Value, phone: &str) -> u64 {
    let stages = plan["stages"].as_array().into_iter().flatten();
    let of_phone = stages.filter(|stage| stage["phone"] == phone);
    let layers = of_phone.map(|stage| {
        let end = |i: usize| stage["layers"][i].as_u64().expect("a number");
        end(1) - end(0)
    });

    layers.sum()
}

fn slow_group(n_places: usize) -> Group {
    let group = Group::empty(n_places, SMALL);
    group.net.set_all(SLOW_LINK).expect("such links exist");

    group
}

fn lead(group: &mut Group, model: &Path, n_phones: usize, placement: &str) {
    lead_with(group, model, n_phones, placement, &[]);
}

/// Starts the first phone, which has the model.
fn lead_with(group: &mut Group, model: &Path, n_phones: usize, placement: &str, more: &[&str]) {
    let (n, model) = (n_phones.to_string(), model.to_str().expect("a plain name"));
    let own = ["--model", model, "--run", &n, "--placement", placement];

    group.start_with(0, &[&own, more].concat());
}

/// Whether a line says that such a share of a phone's shards is there, and more to come.
fn is_streaming(line: &Value, share: f64) -> bool {
    let number = |field: &str| line[field].as_f64().unwrap_or_default();

    line["event"] == "preparing"
        && number("done_bytes") >= share * number("total_bytes")
        && number("done_bytes") < number("total_bytes")
}

fn is_whole(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "gguf")
}

/// Some 60 MB in few layers.
fn model(folder: &Path) -> PathBuf {
    let shape = Shape {
        name: "some-megabytes".into(),
        n_layers: 6,
        n_embd: 512,
        n_ff: 2048,
        n_head: 8,
        n_head_kv: 4,
        head_dim: 64,
        ..Shape::preset("tiny-llama").expect("the preset exists")
    };
    let path = folder.join("some-megabytes.gguf");
    let written = Synth::new(shape, TensorType::F16, 1).write_file(&path, &mut |_| {});

    written.expect("there is room for the model");
    path
}

/// A small disk of its own, in memory.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).expect("the folder is ours");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
            .arg(at)
            .status();
        assert!(mount.expect("there is `mount`").success());

        Self(at.into())
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut file =
            File::create(self.0.join("something-else")).expect("there is room for a name");
        let block = vec![0; 1 << 16];
        while file.write_all(&block).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status(); // the folder goes with it
    }
}
