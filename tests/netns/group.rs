//! Several phones that are a group, each in a network namespace of its own.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use gguf_tools::{Shape, Synth, TensorType};
use netshim::{Net, NetOptions, Profile};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::node::{Node, Said, leader_of};

/// How long anything may take that has no promise of its own, on a machine that others use too.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The promise: from the moment when the first phone misses its leader until all have another.
pub const ELECTED_WITHIN: Duration = Duration::from_secs(5);

/// Makes a tiny model's token take some 50 ms on a phone: an answer is then still being written when
/// something happens to it.
pub const SLOW: &[&str] = &["--slowdown", "100"];

/// The port that phones listen on.
const PORT: u16 = 27_077;

/// A running group. The first phone founded it; every phone says yes to every code.
#[derive(Debug)]
pub struct Group {
    pub net: Net,
    /// A phone that was killed or stopped is none.
    pub nodes: Vec<Option<Node>>,
    /// What phones said that were killed or stopped.
    past: Vec<Vec<Said>>,
    options: Vec<String>,
    folder: TempDir,
}

impl Group {
    /// Puts up a network of `n_places` phones under Wi-Fi, and forms a group of the first `n_phones`.
    #[track_caller]
    pub fn form(n_phones: usize, n_places: usize, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");

        Self::form_in(folder, n_phones, n_places, options)
    }

    /// The same, with a tiny model that all of them have; waits until each can be asked.
    #[track_caller]
    pub fn run(n_phones: usize, n_places: usize, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let model = tiny_model(folder.path());
        let model = model.to_str().expect("temporary folders have plain names");
        let n = n_phones.to_string();
        let model = ["--run", &n, "--model", model, "--placement", "even"];
        let options = [&model, options].concat();

        let mut group = Self::form_in(folder, n_phones, n_places, &options);
        for phone in 0..n_phones {
            group.node(phone).until_event("plan");
        }
        group
    }

    /// Puts up a network of `n_places` phones under Wi-Fi, none of which is started.
    pub fn empty(n_places: usize, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");

        Self::empty_in(folder, n_places, options)
    }

    fn empty_in(folder: TempDir, n_places: usize, options: &[&str]) -> Self {
        let net = Net::new(NetOptions::phones(n_places).profile(Profile::Wifi));

        Self {
            nodes: (0..n_places).map(|_| None).collect(),
            past: vec![Vec::new(); n_places],
            options: options.iter().map(|&option| option.to_owned()).collect(),
            net: net.expect("requirements() was asked"),
            folder,
        }
    }

    fn form_in(folder: TempDir, n_phones: usize, n_places: usize, options: &[&str]) -> Self {
        let mut group = Self::empty_in(folder, n_places, options);

        group.start(0);
        for phone in 1..n_phones {
            group.join(phone);
        }
        for phone in 0..n_phones {
            group.wait_for_members(phone, n_phones);
        }
        group
    }

    /// Starts a phone, with whatever is in its data folder.
    pub fn start(&mut self, phone: usize) {
        self.start_with(phone, &[]);
    }

    /// Starts a phone that asks the first one to be let in.
    pub fn join(&mut self, phone: usize) {
        self.join_with(phone, &[]);
    }

    /// The same, with more options.
    pub fn join_with(&mut self, phone: usize, more: &[&str]) {
        let host = self.address(0);
        self.start_with(phone, &[more, &["--join", &host]].concat());
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a phone keeps what it keeps.
    pub fn data_folder(&self, phone: usize) -> PathBuf {
        self.folder.path().join(name(phone))
    }

    /// Starts a phone with more options.
    pub fn start_with(&mut self, phone: usize, more: &[&str]) {
        let options = self.options.iter().map(String::as_str);
        let all: Vec<_> = options
            .chain(["--accept", "all"])
            .chain(more.iter().copied())
            .collect();
        let node = Node::start(
            self.net.phone(phone),
            self.folder.path(),
            &name(phone),
            &all,
        );
        self.nodes[phone] = Some(node);
    }

    /// A running phone.
    #[track_caller]
    pub fn node(&mut self, phone: usize) -> &mut Node {
        self.nodes[phone].as_mut().expect("it is running")
    }

    /// Where others reach a phone, whole.
    pub fn address(&mut self, phone: usize) -> String {
        let ip = self.net.phone(phone).ipv4();

        format!("/ip4/{ip}/tcp/{PORT}/p2p/{}", self.node(phone).peer)
    }

    /// Kills a phone.
    pub fn kill(&mut self, phone: usize) {
        let said = self.nodes[phone].take().expect("it is running").kill();
        self.past[phone].extend(said);
    }

    /// Stops a phone as a person does.
    #[track_caller]
    pub fn stop(&mut self, phone: usize) {
        let said = self.nodes[phone].take().expect("it is running").stop();
        self.past[phone].extend(said);
    }

    /// The running phones.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|&phone| self.nodes[phone].is_some())
            .collect()
    }

    /// The phone that `phone` obeys.
    pub fn leader_of(&mut self, phone: usize) -> Option<usize> {
        let (peer, _) = self.node(phone).leader()?;

        self.running()
            .into_iter()
            .find(|&other| self.node(other).peer == peer)
    }

    /// Waits until a phone says that its group has so many members.
    #[track_caller]
    pub fn wait_for_members(&mut self, phone: usize, n: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.node(phone).members().len() != n {
            assert!(
                Instant::now() < deadline,
                "{} of {n} members at {phone}",
                self.node(phone).members().len()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until all of `phones` obey one of them, in one term; returns which, and when the last said so.
    #[track_caller]
    pub fn one_leader(&mut self, phones: &[usize], patience: Duration) -> (usize, Instant) {
        let deadline = Instant::now() + patience;

        loop {
            let leaders: Vec<_> = phones
                .iter()
                .map(|&phone| self.node(phone).leader())
                .collect();
            let named = leaders[0]
                .clone()
                .filter(|first| leaders.iter().all(|leader| leader.as_ref() == Some(first)));
            let leader = named.and_then(|(peer, _)| {
                phones
                    .iter()
                    .copied()
                    .find(|&phone| self.node(phone).peer == peer)
            });
            if let Some(leader) = leader {
                return (leader, self.last_leader_line(phones));
            }
            assert!(Instant::now() < deadline, "{phones:?} obey {leaders:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until one of `phones` misses the leader; returns when.
    #[track_caller]
    pub fn first_without_leader(&mut self, phones: &[usize], since: Instant) -> Instant {
        let deadline = Instant::now() + PATIENCE;

        loop {
            let nobody = |said: &Said| {
                said.at >= since && said.line["event"] == "leader" && said.line["peer"].is_null()
            };
            let first = phones.iter().filter_map(|&phone| {
                let said = self.nodes[phone].as_mut().expect("it is running").said();
                said.iter().find(|said| nobody(said)).map(|said| said.at)
            });
            if let Some(first) = first.min() {
                return first;
            }
            assert!(
                Instant::now() < deadline,
                "none of {phones:?} misses the leader"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn last_leader_line(&mut self, phones: &[usize]) -> Instant {
        let last = phones.iter().filter_map(|&phone| {
            let said = self.nodes[phone].as_mut().expect("it is running").said();
            said.iter()
                .rfind(|said| said.line["event"] == "leader")
                .map(|said| said.at)
        });

        last.max().expect("they have said who leads")
    }

    /// Asserts what holds whatever happens: no phone goes back to an older term, nor obeys two phones in one.
    #[track_caller]
    pub fn assert_terms(&mut self) {
        for phone in 0..self.nodes.len() {
            let mut said = self.past[phone].clone();
            said.extend(
                self.nodes[phone]
                    .iter_mut()
                    .flat_map(|node| node.said().to_vec()),
            );
            let leaders = said.iter().filter(|said| said.line["event"] == "leader");
            let mut newest: Option<(String, u64)> = None;
            for (peer, term) in leaders.filter_map(|said| leader_of(&said.line)) {
                if let Some((before, newest)) = newest {
                    assert!(
                        newest <= term,
                        "phone {phone} goes back from term {newest} to {term}"
                    );
                    assert!(
                        newest < term || before == peer,
                        "phone {phone} obeys two in term {term}"
                    );
                }
                newest = Some((peer, term));
            }
        }
    }

    /// Asks a phone until it gives a whole answer, which has to come within `patience`.
    #[track_caller]
    pub fn ask_until_answered(
        &mut self,
        phone: usize,
        id: u64,
        question: &Value,
        patience: Duration,
    ) -> Vec<u64> {
        let deadline = Instant::now() + patience;

        for id in id.. {
            self.node(phone).ask(id, question);
            let answer = self.node(phone).answer(id, patience);
            if answer.end["event"] == "done" {
                return answer.tokens;
            }
            assert!(
                Instant::now() < deadline,
                "phone {phone} gives no answer: {answer:?}"
            );
            thread::sleep(Duration::from_millis(200));
        }
        unreachable!("there are enough numbers")
    }

    /// Stops all that run, and asserts that none complained of a bug.
    #[track_caller]
    pub fn end(mut self) {
        self.assert_terms();
        for phone in self.running() {
            self.stop(phone);
        }
        for phone in 0..self.nodes.len() {
            let log = self.folder.path().join(format!("{}.log", name(phone)));
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let bugs = log
                .lines()
                .filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
            assert_eq!(
                bugs.collect::<Vec<_>>(),
                Vec::<&str>::new(),
                "phone {phone}"
            );
        }
    }
}

/// Returns a phone's name.
pub fn name(phone: usize) -> String {
    format!("phone-{phone}")
}

fn tiny_model(folder: &Path) -> PathBuf {
    let shape = Shape::preset("tiny-llama").expect("the preset exists");
    let path = folder.join("tiny-llama.gguf");
    let synth = Synth::new(shape, TensorType::Q8_0, 1);
    let written = synth.write_file(&path, &mut |_| {});

    written.expect("there is room for the model");
    path
}

/// Returns a question whose answer has so many tokens.
pub fn question(n_tokens: u32) -> Value {
    let prompt: Vec<_> = (0..20).map(|i| (i * 37 + 11) % 400 + 5).collect();

    json!({
        "prompt": { "tokens": prompt },
        "max_tokens": n_tokens,
        "sampling": { "temperature": 0.0 },
        "stop": [],
        "ignore_end": true,
    })
}
