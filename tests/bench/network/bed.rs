//! Phones in a network, ready to be measured.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use netshim::{Link, Net, NetOptions, Profile};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::group::PATIENCE;
use crate::node::Node;

/// The port that phones listen on.
const PORT: u16 = 27_077;

/// Some phones, the first of which founds the group, leads it and has the model.
pub struct Bed {
    pub net: Net,
    pub nodes: Vec<Node>,
    folder: TempDir,
    options: Vec<Vec<String>>,
    n_asked: u64,
}

/// What an answer took.
#[derive(Debug, Clone)]
pub struct Took {
    pub ttft_ms: f64,
    pub tpot_ms: f64,
    /// From each token to the next, as the asker saw them.
    pub gaps_ms: Vec<f64>,
}

impl Bed {
    /// Puts up a network for phones with these options.
    pub fn new(options: &[Vec<String>]) -> Self {
        let net = Net::new(NetOptions::phones(options.len()).profile(Profile::Wifi));

        Self {
            net: net.expect("requirements() was asked"),
            nodes: Vec::new(),
            folder: tempfile::tempdir().expect("there is room for a folder"),
            options: options.to_vec(),
            n_asked: 0,
        }
    }

    /// The same, with other links.
    pub fn with_links(options: &[Vec<String>], link: Link) -> Self {
        let bed = Self::new(options);
        bed.net.set_all(link).expect("such links exist");

        bed
    }

    /// Forms the group: every phone says yes to every code.
    pub fn form(&mut self) {
        self.start(&[]);
        let host = self.address(0);
        for _ in 1..self.options.len() {
            self.start(&["--join", &host]);
        }
    }

    /// Starts the next phone.
    pub fn start(&mut self, more: &[&str]) {
        let phone = self.nodes.len();
        let node = self.start_as(phone, more);
        self.nodes.push(node);
    }

    /// Starts a phone with whatever is in its folder.
    pub fn start_as(&self, phone: usize, more: &[&str]) -> Node {
        let own = self.options[phone].iter().map(String::as_str);
        let options = own.chain(["--accept", "all"]).chain(more.iter().copied());
        let options = options.collect::<Vec<_>>();

        Node::start(
            self.net.phone(phone),
            self.folder.path(),
            &name(phone),
            &options,
        )
    }

    /// Waits until each phone knows of a plan.
    pub fn until_planned(&mut self) {
        for node in &mut self.nodes {
            node.until_event("plan");
        }
    }

    /// Where others reach a phone.
    pub fn address(&self, phone: usize) -> String {
        let ip = self.net.phone(phone).ipv4();

        format!("/ip4/{ip}/tcp/{PORT}/p2p/{}", self.nodes[phone].peer)
    }

    /// Asks the first phone, and waits for the whole answer.
    pub fn ask(&mut self, n_prompt: u32, n_tokens: u32) -> Took {
        self.n_asked += 1;
        let (id, node) = (self.n_asked, &mut self.nodes[0]);
        node.ask(id, &question(id, n_prompt, n_tokens));
        let answer = node.answer(id, PATIENCE);
        answer.assert_done();

        let is_token = |line: &Value| line["id"] == id && line["event"] == "token";
        let times = node.said().iter().filter(|said| is_token(&said.line));
        let times = times.map(|said| said.at).collect::<Vec<_>>();
        let number = |field: &str| answer.end[field].as_f64().expect("a figure");
        Took {
            ttft_ms: number("ttft_ms"),
            tpot_ms: number("tpot_ms"),
            gaps_ms: times.windows(2).map(|t| ms(t[1] - t[0])).collect(),
        }
    }

    /// The last line of a kind that a phone said.
    pub fn last(&mut self, phone: usize, event: &str) -> Value {
        let said = self.nodes[phone].said();
        let last = said.iter().rfind(|said| said.line["event"] == event);

        last.map_or(Value::Null, |said| said.line.clone())
    }
}

/// Options of a phone.
pub fn options(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Options of the phone with the model, which runs it once so many phones are here.
pub fn with_model(model: &Path, n_phones: usize, more: &[&str]) -> Vec<String> {
    let model = model.to_str().expect("temporary folders have plain names");
    let run = n_phones.to_string();

    options(&[&["--model", model, "--run", &run], more].concat())
}

/// A question of so many tokens that begins as no other does, so that nothing of it is in a cache.
fn question(id: u64, n_prompt: u32, n_tokens: u32) -> Value {
    let prompt = (0..u64::from(n_prompt)).map(|i| (id * 7919 + i * 37) % 30_000 + 5);

    json!({
        "prompt": { "tokens": prompt.collect::<Vec<_>>() },
        "max_tokens": n_tokens,
        "sampling": { "temperature": 0.0 },
        "stop": [],
        "ignore_end": true,
    })
}

/// Returns the value below which such a share of all lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);

    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// Returns the middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&values.into_iter().collect::<Vec<_>>(), 0.5)
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn name(phone: usize) -> String {
    format!("phone-{phone}")
}
