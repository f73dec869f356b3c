//! One phone's engine: does one thing at a time, in the order in which it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use proto::chat::{Ask, Prompt};
use proto::pipeline::{Pick, Sample, Token};
use proto::plan::Plan;
use proto::ring::InEvent;
use proto::wire::{CacheOp, Run, Step};
use proto::{Epoch, PeerId, RequestId, SequenceId, StepId};

use super::Micros;
use super::model::{self, Cache, Hidden, Row};

/// How long things take on one phone, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Getting and loading the shards of a plan.
    pub load: Micros,
    /// Turning a question into tokens.
    pub open: Micros,
    /// Embedding a step's tokens.
    pub embed: Micros,
    /// One step through one layer.
    pub layer: Micros,
    /// One token more in a step, through one layer.
    pub layer_token: Micros,
    /// Sampling a step.
    pub sample: Micros,
}

/// Something to do.
#[derive(Debug)]
pub enum Job {
    /// See [`proto::phone::OutEvent::Load`].
    Load(Arc<Plan>),
    /// See [`proto::phone::OutEvent::Unload`].
    Unload,
    /// See [`proto::phone::OutEvent::Open`].
    Open(RequestId, Arc<Ask>),
    /// See [`proto::phone::OutEvent::Close`].
    Close(RequestId),
    /// See [`proto::phone::OutEvent::Embed`].
    Embed(StepId, Vec<Token>),
    /// See [`proto::phone::OutEvent::Compute`].
    Compute(Arc<Step>, Hidden, bool),
    /// See [`proto::phone::OutEvent::Sample`].
    Sample(StepId, Hidden, Vec<Pick>),
}

/// One phone's layers, caches and samplers.
#[derive(Debug)]
pub struct Engine {
    me: PeerId,
    pace: Pace,
    jobs: VecDeque<Job>,
    layers: Range<u32>,
    n_layers: u32,
    n_ctx: usize,
    epoch: Epoch,
    caches: BTreeMap<(u32, SequenceId), Cache>,
    samplers: BTreeMap<RequestId, Arc<Ask>>,
    /// Whether it cannot run a step any more.
    pub broken: bool,
    /// Rows that left the last stage, each having passed every layer once, in order.
    pub n_rows: u64,
}

impl Engine {
    /// Starts without a model; `n_layers` is what a row must have passed at the end of the ring.
    pub fn new(me: PeerId, pace: Pace, n_layers: u32) -> Self {
        Self {
            me,
            pace,
            jobs: VecDeque::new(),
            layers: 0..0,
            n_layers,
            n_ctx: 0,
            epoch: Epoch(0),
            caches: BTreeMap::new(),
            samplers: BTreeMap::new(),
            broken: false,
            n_rows: 0,
        }
    }

    /// Takes a job; returns how long it takes if it is begun at once.
    pub fn push(&mut self, job: Job) -> Option<Micros> {
        self.jobs.push_back(job);

        (self.jobs.len() == 1).then(|| self.front_takes()).flatten()
    }

    /// Ends the job that runs; returns what came of it, and how long the next takes.
    pub fn finish(&mut self) -> (Option<InEvent<Hidden>>, Option<Micros>) {
        let job = self.jobs.pop_front().expect("a job ran");

        (self.run(job), self.front_takes())
    }

    /// Returns what was sampled for and never closed.
    pub fn samplers(&self) -> impl Iterator<Item = &RequestId> {
        self.samplers.keys()
    }

    /// Returns tokens in each sequence's cache, layer by layer.
    pub fn caches(&self) -> impl Iterator<Item = (u32, SequenceId, &[Token])> {
        let caches = self.caches.iter();

        caches.map(|((layer, sequence), cache)| (*layer, *sequence, cache.tokens.as_slice()))
    }

    fn front_takes(&self) -> Option<Micros> {
        let n_layers = Micros::from(self.layers.end - self.layers.start);

        Some(match self.jobs.front()? {
            Job::Load(_) => self.pace.load,
            Job::Unload => 0,
            Job::Open(..) => self.pace.open,
            Job::Close(_) => 0,
            Job::Embed(..) => self.pace.embed,
            Job::Compute(step, ..) => {
                let tokens = self.pace.layer_token * step.n_tokens() as Micros;
                n_layers * (self.pace.layer + tokens)
            }
            Job::Sample(..) => self.pace.sample,
        })
    }

    fn run(&mut self, job: Job) -> Option<InEvent<Hidden>> {
        match job {
            Job::Load(plan) => Some(self.load(&plan)),
            Job::Unload => {
                self.layers = 0..0;
                self.caches.clear();
                None
            }
            Job::Open(request, ask) => Some(self.open(request, ask)),
            Job::Close(request) => {
                self.samplers.remove(&request);
                None
            }
            Job::Embed(step, tokens) => Some(InEvent::Embedded {
                step,
                hidden: tokens.into_iter().map(Row::embed).collect(),
            }),
            Job::Compute(..) if self.broken => Some(InEvent::EngineFailed {
                reason: "no memory left".into(),
            }),
            Job::Compute(step, hidden, last) => Some(self.compute(&step, hidden, last)),
            Job::Sample(step, hidden, picks) => Some(self.sample(step, &hidden, &picks)),
        }
    }

    fn load(&mut self, plan: &Plan) -> InEvent<Hidden> {
        let layers = plan.stage_of(self.me).map(|(_, stage)| stage.layers);
        self.layers = layers.map_or(0..0, |layers| layers.start()..layers.end());
        self.n_ctx = plan.n_ctx as usize;
        self.epoch = plan.epoch;
        self.caches.clear();

        InEvent::Loaded { epoch: plan.epoch }
    }

    fn open(&mut self, request: RequestId, ask: Arc<Ask>) -> InEvent<Hidden> {
        let prompt = [tokens_of(&ask.prompt), ask.written.clone()].concat();
        let before = self.samplers.insert(request, ask);
        assert!(before.is_none(), "{request:?} was opened twice");

        InEvent::Opened { request, prompt }
    }

    fn compute(&mut self, step: &Step, mut hidden: Hidden, last: bool) -> InEvent<Hidden> {
        assert_eq!(step.epoch, self.epoch, "a step of another plan ran");
        assert_eq!(
            hidden.len(),
            step.n_tokens(),
            "rows do not match the header"
        );

        for op in &step.cache_ops {
            self.change(op);
        }
        let mut wanted = Vec::with_capacity(step.n_wanted());
        let mut rest = hidden.as_mut_slice();
        for run in &step.runs {
            let (rows, after) = rest.split_at_mut(run.n_tokens as usize);
            self.extend(run, rows);
            wanted.extend_from_slice(&rows[rows.len() - run.n_wanted as usize..]);
            rest = after;
        }
        if last {
            hidden.iter().for_each(|row| self.passed_all_layers(row));
            self.n_rows += hidden.len() as u64;
        }

        InEvent::Computed {
            step: step.id,
            hidden: if last { wanted } else { hidden },
        }
    }

    fn change(&mut self, op: &CacheOp) {
        match *op {
            CacheOp::Truncate {
                sequence,
                n_positions,
            } => {
                for layer in self.layers.clone() {
                    let cache = self.caches.entry((layer, sequence)).or_default();
                    cache.truncate(n_positions as usize);
                }
            }
        }
    }

    /// Runs this phone's layers over consecutive tokens; a gap or an overlap in a cache is a failure.
    fn extend(&mut self, run: &Run, rows: &mut [Row]) {
        for layer in self.layers.clone() {
            let cache = self.caches.entry((layer, run.sequence)).or_default();
            assert_eq!(
                cache.tokens.len(),
                run.position as usize,
                "layer {layer}, {:?}: a run does not go on where the cache ends",
                run.sequence
            );
            rows.iter_mut().for_each(|row| cache.run(layer, row));
            assert!(cache.tokens.len() <= self.n_ctx, "a cache is over-full");
        }
    }

    fn passed_all_layers(&self, row: &Row) {
        assert!(
            row.layers.iter().copied().eq(0..self.n_layers),
            "a token passed layers {:?}",
            row.layers
        );
    }

    fn sample(&self, step: StepId, hidden: &Hidden, picks: &[Pick]) -> InEvent<Hidden> {
        assert_eq!(hidden.len(), picks.len(), "a row for each pick");

        let samples = hidden.iter().zip(picks).map(|(row, pick)| {
            let ask = &self.samplers[&pick.request];
            let token = model::sample(row, pick.position as usize, ask.sampling.seed);
            Sample {
                token,
                text: model::text_of(token),
                end: model::is_end(token) && !ask.ignore_end,
            }
        });

        InEvent::Sampled {
            step,
            samples: samples.collect(),
        }
    }
}

/// Returns a prompt's tokens; text has one for each byte.
pub fn tokens_of(prompt: &Prompt) -> Vec<Token> {
    match prompt {
        Prompt::Tokens(tokens) => tokens.clone(),
        Prompt::Text(text) => text.bytes().map(Token::from).collect(),
        Prompt::Chat(messages) => {
            let bytes = messages.iter().flat_map(|message| message.content.bytes());
            bytes.map(Token::from).collect()
        }
    }
}
