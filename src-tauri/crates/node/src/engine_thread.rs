//! The thread that computes: one job after the other, in the order asked.
//!
//! llama.cpp's contexts live and die on this thread. What it finds out goes to the event loop as the
//! state machines' own events.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ::engine::{
    ChatMessage, Detokenizer, Ends, Engine, EngineOptions, LayerShard, LoadError, LoadOptions,
    Role, RunError, Sampler, SamplingOptions, SequenceRun, StopStrings, Token,
};
use gguf_tools::{Manifest, ModelHash, ShardEntry};
use proto::chat::{Ask, Message, Prompt, RefusalReason};
use proto::pipeline::{Pick, Sample};
use proto::plan::Plan;
use proto::profile::respondent::{self, StageLayers, Work};
use proto::reconfig::Cause;
use proto::ring::InEvent;
use proto::wire::{CacheOp, Step};
use proto::{RequestId, StepId};
use tokio::sync::mpsc as tokio_mpsc;

use crate::measure::Gauge;
use crate::net::frame::Hidden;

/// How this phone computes.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Threads that compute.
    pub n_threads: u32,
    /// Bytes that weights, caches and buffers may take together; `None` asks nobody.
    pub memory_limit_bytes: Option<u64>,
    /// Makes every step take this many times as long: a slow phone, for demos and tests. 1 is its own speed.
    pub slowdown: f64,
}

/// A shard, ready to be loaded.
#[derive(Debug, Clone)]
pub struct ShardFile {
    /// What it is.
    pub entry: ShardEntry,
    /// Where it is.
    pub path: PathBuf,
}

/// What the event loop asks for.
#[derive(Debug)]
pub enum Job {
    /// Load these shards in place of any before.
    Load {
        /// Plan that they are for.
        plan: Arc<Plan>,
        /// What the model is.
        manifest: Arc<Manifest>,
        /// The ends, if this phone is the head, and the shards of its stage in order.
        files: Vec<ShardFile>,
    },
    /// Give back what was loaded.
    Unload,
    /// Bytes that weights, caches and buffers may take from the next load on; `None` asks nobody.
    LimitMemory(Option<u64>),
    /// Compute with half of the threads, or with all of them again.
    Spare(bool),
    /// Measure this phone with a sample of a model.
    Measure(Arc<gguf_tools::Sample>),
    /// See [`proto::pipeline::OutEvent::Open`].
    Open {
        /// Name of the question.
        request: RequestId,
        /// The question.
        ask: Arc<Ask>,
    },
    /// See [`proto::pipeline::OutEvent::Close`].
    Close {
        /// Name of the question.
        request: RequestId,
    },
    /// See [`proto::pipeline::OutEvent::Embed`].
    Embed {
        /// Step that the tokens belong to.
        step: StepId,
        /// The tokens.
        tokens: Vec<proto::pipeline::Token>,
    },
    /// See [`proto::pipeline::OutEvent::Compute`].
    Compute {
        /// The header.
        step: Arc<Step>,
        /// `[n_tokens, n_embd]`.
        hidden: Hidden,
        /// Whether only the wanted rows go on.
        last: bool,
    },
    /// See [`proto::pipeline::OutEvent::Sample`].
    Sample {
        /// Step that the rows belong to.
        step: StepId,
        /// `[picks.len(), n_embd]`.
        hidden: Hidden,
        /// What to sample.
        picks: Vec<Pick>,
    },
}

/// What the engine thread says.
#[derive(Debug)]
pub enum EngineEvent {
    /// For the state machines.
    Phone {
        /// What there is to say.
        event: InEvent<Hidden>,
        /// What was computed for it, and how long that took.
        work: Option<Work>,
    },
    /// This phone was measured, or could not be.
    Measured(respondent::InEvent),
    /// For people: so much of what is being loaded is loaded.
    Loading {
        /// Between 0 and 1.
        fraction: f32,
    },
}

/// Starts the thread. It ends when the sender is dropped, after the job at hand.
///
/// Its events are as many as its jobs and some words of progress, and the jobs are bounded by the
/// pipeline's credits: the channel needs no bound of its own.
pub fn start(
    config: EngineConfig,
    gauge: Gauge,
) -> (
    mpsc::Sender<Job>,
    tokio_mpsc::UnboundedReceiver<EngineEvent>,
) {
    let (jobs, inbox) = mpsc::channel();
    let (events, outbox) = tokio_mpsc::unbounded_channel();

    thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            let _last_word = LastWord(events.clone());
            let mut worker = Worker::new(config, gauge, events);
            while let Ok(job) = inbox.recv() {
                worker.work(job);
            }
        })
        .expect("the system starts a thread at start-up");

    (jobs, outbox)
}

/// Tells the state machines when the thread panics: every step would wait for it for ever.
struct LastWord(tokio_mpsc::UnboundedSender<EngineEvent>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if thread::panicking() {
            let event = InEvent::EngineFailed {
                reason: "its engine has crashed: this is a bug".into(),
            };
            let _ = self.0.send(EngineEvent::Phone { event, work: None }); // the event loop may have ended
        }
    }
}

struct Worker {
    config: EngineConfig,
    gauge: Gauge,
    engine: Engine,
    events: tokio_mpsc::UnboundedSender<EngineEvent>,
    /// The plan's shards that this phone runs, in order.
    layers: Vec<LayerShard>,
    /// What they are, as far as their time depends on it.
    stage: Option<StageLayers>,
    /// Steps that have run since they were loaded, and tokens that were sampled.
    n_steps: u32,
    n_samples: u32,
    ends: Option<Ends>,
    answers: BTreeMap<RequestId, Writing>,
    /// Between two shards of the stage; swapped, never copied.
    spare: Hidden,
    logits: Vec<f32>,
    runs: Vec<SequenceRun>,
}

/// An answer that is being written.
struct Writing {
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: StopStrings,
    /// Prompt and answer so far.
    history: Vec<Token>,
    ignore_end: bool,
    /// Whether what was written before is the whole answer: its end was lost on the way.
    is_over: bool,
}

impl Worker {
    fn new(
        config: EngineConfig,
        gauge: Gauge,
        events: tokio_mpsc::UnboundedSender<EngineEvent>,
    ) -> Self {
        let engine = Engine::new(EngineOptions {
            n_threads: config.n_threads,
        });

        Self {
            config,
            gauge,
            engine,
            events,
            layers: Vec::new(),
            stage: None,
            n_steps: 0,
            n_samples: 0,
            ends: None,
            answers: BTreeMap::new(),
            spare: Vec::new(),
            logits: Vec::new(),
            runs: Vec::new(),
        }
    }

    fn work(&mut self, job: Job) {
        let started = Instant::now();
        let timed = self.timed(&job);
        let slowed = matches!(
            job,
            Job::Embed { .. } | Job::Compute { .. } | Job::Sample { .. }
        );

        let event = match job {
            Job::Load {
                plan,
                manifest,
                files,
            } => Some(self.load(&plan, &manifest, &files)),
            Job::Unload => {
                self.unload();
                None
            }
            Job::LimitMemory(bytes) => {
                self.config.memory_limit_bytes = bytes;
                None
            }
            Job::Spare(is_spared) => {
                self.engine.spare(is_spared);
                None
            }
            Job::Measure(sample) => {
                let event = self.gauge.measure(&sample, &self.config);
                let _ = self.events.send(EngineEvent::Measured(event)); // as below
                None
            }
            Job::Open { request, ask } => Some(self.open(request, &ask)),
            Job::Close { request } => {
                self.answers.remove(&request);
                None
            }
            Job::Embed { step, tokens } => Some(or_failed(self.embed(step, &tokens))),
            Job::Compute { step, hidden, last } => {
                Some(or_failed(self.compute(&step, hidden, last)))
            }
            Job::Sample {
                step,
                hidden,
                picks,
            } => Some(or_failed(self.sample(step, &hidden, &picks))),
        };

        if slowed && self.config.slowdown > 1.0 {
            thread::sleep(started.elapsed().mul_f64(self.config.slowdown - 1.0));
        }
        if let Some(event) = event {
            let has_failed = matches!(event, InEvent::EngineFailed { .. });
            let timed = timed.filter(|_| !has_failed);
            let work = timed.map(|timed| timed.took(started.elapsed()));
            let _ = self.events.send(EngineEvent::Phone { event, work }); // the event loop may have ended
        }
    }

    /// Returns what is to be told of a job's time. The first steps after loading tell nothing: they read weights that
    /// are nowhere near yet. Nor do steps of several conversations, of which a forecast says nothing.
    fn timed(&mut self, job: &Job) -> Option<Timed> {
        match job {
            Job::Compute { step, .. } => {
                self.n_steps = self.n_steps.saturating_add(1);
                let [run] = step.runs[..] else { return None };
                let stage = self.stage.filter(|_| self.n_steps > COLD_STEPS)?;
                Some(Timed::Layers {
                    stage,
                    n_tokens: run.n_tokens,
                    n_positions: run.position,
                })
            }
            Job::Sample { picks, .. } => {
                self.n_samples = self.n_samples.saturating_add(1);
                let is_told = picks.len() == 1 && self.n_samples > COLD_STEPS;
                let model = self.stage?.model;
                is_told.then_some(Timed::Token { model })
            }
            Job::Load { .. }
            | Job::Unload
            | Job::LimitMemory(_)
            | Job::Spare(_)
            | Job::Measure(_)
            | Job::Open { .. }
            | Job::Close { .. }
            | Job::Embed { .. } => None,
        }
    }

    fn load(&mut self, plan: &Plan, manifest: &Manifest, files: &[ShardFile]) -> InEvent<Hidden> {
        let epoch = plan.epoch;
        self.unload();
        self.n_steps = 0;
        self.n_samples = 0;
        self.stage = Some(stage_layers(plan, manifest, files));

        match self.load_all(plan, manifest, files) {
            Ok(()) => InEvent::Loaded { epoch },
            Err(error) => {
                self.unload();
                InEvent::LoadFailed {
                    epoch,
                    cause: Cause::CannotLoad,
                    reason: error.to_string(),
                }
            }
        }
    }

    fn unload(&mut self) {
        self.layers.clear();
        self.ends = None;
        self.answers.clear();
    }

    fn load_all(
        &mut self,
        plan: &Plan,
        manifest: &Manifest,
        files: &[ShardFile],
    ) -> Result<(), LoadError> {
        let mut options = LoadOptions {
            n_ctx: plan.n_ctx,
            n_sequences: plan.n_sequences,
            n_batch: plan.chunk_tokens,
            memory_budget_bytes: self.config.memory_limit_bytes,
            ..LoadOptions::default()
        };

        for (i, file) in files.iter().enumerate() {
            let events = self.events.clone();
            let n_files = files.len() as f32;
            let mut progress = move |fraction: f32| {
                let fraction = (i as f32 + fraction) / n_files;
                let _ = events.send(EngineEvent::Loading { fraction });
                ControlFlow::Continue(())
            };

            let path = &file.path;
            let needed_bytes = if file.entry.layers().is_some() {
                let shard = self.engine.load_layers(
                    path,
                    manifest,
                    &file.entry,
                    &options,
                    &mut progress,
                )?;
                let needed_bytes = shard.needed_bytes();
                self.layers.push(shard);
                needed_bytes
            } else {
                let ends = self
                    .engine
                    .load_ends(path, manifest, &options, &mut progress)?;
                self.ends.insert(ends).needed_bytes()
            };
            if let Some(budget) = &mut options.memory_budget_bytes {
                *budget = budget.saturating_sub(needed_bytes);
            }
        }

        Ok(())
    }

    fn open(&mut self, request: RequestId, ask: &Ask) -> InEvent<Hidden> {
        let Some(ends) = &self.ends else {
            return InEvent::Refused {
                request,
                reason: RefusalReason::NoModel,
            };
        };
        let written = known_tokens(ends, &ask.written);
        let (prompt, written) = match (tokens_of(ends, &ask.prompt), written) {
            (Ok(prompt), Ok(written)) => (prompt, written),
            (Err(reason), _) | (_, Err(reason)) => {
                return InEvent::Refused { request, reason };
            }
        };

        let template_stops = ends.stop_strings().iter().map(|stop| (*stop).to_owned());
        let mut writing = Writing {
            sampler: Sampler::new(options_of(&ask.sampling)),
            detokenizer: Detokenizer::new(),
            stops: StopStrings::new(ask.stop.iter().cloned().chain(template_stops)),
            history: prompt,
            ignore_end: ask.ignore_end,
            is_over: false,
        };
        for token in written {
            writing.go_over(ends, token);
        }
        let prompt = writing
            .history
            .iter()
            .map(|&token| to_wire(token))
            .collect();
        self.answers.insert(request, writing);

        InEvent::Opened { request, prompt }
    }

    fn embed(
        &mut self,
        step: StepId,
        tokens: &[proto::pipeline::Token],
    ) -> Result<InEvent<Hidden>, JobError> {
        let ends = self.ends.as_mut().ok_or(JobError::NothingLoaded)?;
        let tokens = tokens.iter().map(|&t| from_wire(t)).collect::<Vec<_>>();
        let mut hidden = Hidden::new();
        ends.embed(&tokens, &mut hidden)?;

        Ok(InEvent::Embedded { step, hidden })
    }

    fn compute(
        &mut self,
        step: &Step,
        mut hidden: Hidden,
        last: bool,
    ) -> Result<InEvent<Hidden>, JobError> {
        let n_shards = self.layers.len();
        if n_shards == 0 {
            return Err(JobError::NothingLoaded);
        }
        self.runs.clear();
        self.runs.extend(step.runs.iter().map(|run| SequenceRun {
            sequence: run.sequence.0,
            position: run.position,
            n_tokens: run.n_tokens,
            n_wanted: run.n_wanted,
        }));

        for (i, shard) in self.layers.iter_mut().enumerate() {
            for op in &step.cache_ops {
                let CacheOp::Truncate {
                    sequence,
                    n_positions,
                } = *op;
                shard.truncate(sequence.0, n_positions)?;
            }
            let all_rows = !(last && i + 1 == n_shards);
            shard.run(&self.runs, &hidden, &mut self.spare, all_rows)?;
            std::mem::swap(&mut hidden, &mut self.spare);
        }

        Ok(InEvent::Computed {
            step: step.id,
            hidden,
        })
    }

    fn sample(
        &mut self,
        step: StepId,
        hidden: &Hidden,
        picks: &[Pick],
    ) -> Result<InEvent<Hidden>, JobError> {
        let ends = self.ends.as_mut().ok_or(JobError::NothingLoaded)?;
        // Before anything is computed: a row of logits takes many times the room of a hidden one.
        if hidden.len() != picks.len() * ends.n_embd() {
            return Err(JobError::WrongRows {
                found: hidden.len() / ends.n_embd(),
                wanted: picks.len(),
            });
        }
        ends.logits(hidden, &mut self.logits)?;
        let n_vocab = ends.n_vocab();

        let rows = self.logits.chunks_exact_mut(n_vocab);
        let samples = picks.iter().zip(rows).map(|(pick, logits)| {
            // An answer that was closed meanwhile still has its row; what is drawn is not looked at.
            self.answers
                .get_mut(&pick.request)
                .map_or_else(Sample::default, |writing| writing.next(ends, logits, *pick))
        });

        Ok(InEvent::Sampled {
            step,
            samples: samples.collect(),
        })
    }
}

impl Writing {
    /// Takes note of a token that was written before: its text has been given out, or is held back again.
    fn go_over(&mut self, ends: &Ends, token: Token) {
        let (mut piece, mut told) = (String::new(), String::new());

        self.history.push(token);
        self.detokenizer.push(ends, token, &mut piece);
        let is_end = ends.is_end_of_turn(token) && !self.ignore_end;
        self.is_over |= self.stops.push(&piece, &mut told) || is_end;
    }

    fn next(&mut self, ends: &Ends, logits: &mut [f32], pick: Pick) -> Sample {
        let token = self.sampler.sample(logits, &self.history, pick.position);
        if self.is_over {
            return Sample {
                token: to_wire(token),
                text: String::new(),
                end: true,
            };
        }
        self.history.push(token);

        let mut text = String::new();
        if ends.is_end_of_turn(token) && !self.ignore_end {
            self.flush(&mut text);
            return Sample {
                token: to_wire(token),
                text,
                end: true,
            };
        }

        let mut piece = String::new();
        self.detokenizer.push(ends, token, &mut piece);
        let end = self.stops.push(&piece, &mut text);
        if pick.last && !end {
            self.flush(&mut text);
        }

        Sample {
            token: to_wire(token),
            text,
            end,
        }
    }

    /// Gives out what was held back: no token follows.
    fn flush(&mut self, text: &mut String) {
        let mut piece = String::new();
        self.detokenizer.finish(&mut piece);
        if !self.stops.push(&piece, text) {
            self.stops.finish(text);
        }
    }
}

/// Steps after loading whose time tells nothing.
const COLD_STEPS: u32 = 3;

/// A job whose time is to be told.
#[derive(Debug, Clone, Copy)]
enum Timed {
    Layers {
        stage: StageLayers,
        n_tokens: u32,
        n_positions: u32,
    },
    Token {
        model: ModelHash,
    },
}

impl Timed {
    fn took(self, time: Duration) -> Work {
        match self {
            Self::Layers {
                stage,
                n_tokens,
                n_positions,
            } => Work::Layers {
                stage,
                n_tokens,
                n_positions,
                time,
            },
            Self::Token { model } => Work::Token { model, time },
        }
    }
}

/// Returns what a phone's layers are, as far as their time depends on it.
fn stage_layers(plan: &Plan, manifest: &Manifest, files: &[ShardFile]) -> StageLayers {
    let mut stage = StageLayers {
        model: manifest.hash(),
        n_layers: 0,
        n_shards: 0,
        weights_bytes: 0,
        chunk_tokens: plan.chunk_tokens,
    };
    for (file, layers) in files.iter().filter_map(|f| Some((f, f.entry.layers()?))) {
        stage.n_layers += layers.len();
        stage.n_shards += 1;
        stage.weights_bytes += file.entry.bytes;
    }

    stage
}

/// Why a step could not be computed.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error("no part of a model is loaded")]
    NothingLoaded,
    #[error("{found} rows came back where {wanted} are wanted")]
    WrongRows { found: usize, wanted: usize },
    #[error(transparent)]
    Run(#[from] RunError),
}

fn or_failed(result: Result<InEvent<Hidden>, JobError>) -> InEvent<Hidden> {
    result.unwrap_or_else(|error| InEvent::EngineFailed {
        reason: error.to_string(),
    })
}

fn tokens_of(ends: &Ends, prompt: &Prompt) -> Result<Vec<Token>, RefusalReason> {
    let invalid = |reason: String| RefusalReason::Invalid(reason);

    match prompt {
        Prompt::Chat(messages) => {
            let messages = messages
                .iter()
                .map(chat_message)
                .collect::<Result<Vec<_>, _>>();
            let text = ends.render(&messages.map_err(invalid)?, true, SystemTime::now());
            Ok(ends.tokenize_prompt(&text.map_err(|e| invalid(e.to_string()))?))
        }
        Prompt::Text(text) => Ok(ends.tokenize_prompt(text)),
        Prompt::Tokens(tokens) => known_tokens(ends, tokens),
    }
}

fn known_tokens(
    ends: &Ends,
    tokens: &[proto::pipeline::Token],
) -> Result<Vec<Token>, RefusalReason> {
    let n_vocab = ends.n_vocab();

    match tokens.iter().find(|&&token| token as usize >= n_vocab) {
        None => Ok(tokens.iter().map(|&token| from_wire(token)).collect()),
        Some(token) => {
            let reason = format!("there is no token {token}");
            Err(RefusalReason::Invalid(reason))
        }
    }
}

fn chat_message(message: &Message) -> Result<ChatMessage, String> {
    let role = match message.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err("a message has an unknown role".into()), // `Ask::validate` knows them
    };

    Ok(ChatMessage {
        role,
        content: message.content.clone(),
    })
}

fn options_of(sampling: &proto::chat::Sampling) -> SamplingOptions {
    SamplingOptions {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repetition_penalty,
        repetition_window: sampling.repetition_window,
        seed: sampling.seed,
    }
}

fn to_wire(token: Token) -> proto::pipeline::Token {
    proto::pipeline::Token::try_from(token).expect("llama.cpp's tokens count from 0")
}

fn from_wire(token: proto::pipeline::Token) -> Token {
    // What does not fit is no token; the engine refuses it by number.
    Token::try_from(token).unwrap_or(Token::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_of_the_thread_is_told() {
        let (events, mut outbox) = tokio_mpsc::unbounded_channel();

        let crashed = thread::spawn(|| {
            let _last_word = LastWord(events);
            panic!("this test's own");
        });

        crashed.join().expect_err("it panics");
        assert!(matches!(
            outbox.try_recv(),
            Ok(EngineEvent::Phone {
                event: InEvent::EngineFailed { .. },
                ..
            })
        ));
    }
}
