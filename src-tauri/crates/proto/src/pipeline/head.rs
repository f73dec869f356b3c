//! The phone that holds the ends: opens and closes the ring for every step.
//!
//! A question goes through these states; each belongs to one sequence from `Reading` on:
//!
//! ```text
//!  Opening ──► Queued ──► Reading ──► Writing ──► (done)
//!     tokenise    a sequence   chunks     a token      Stop · Length
//!                 is idle      follow     per step
//!                              each other
//!        Cancel, from any state ──► Leaving until the ring has none of its steps ──► (gone)
//! ```
//!
//! A step needs a **credit**, which comes back with the step. There are two purses, so that a long prompt
//! cannot take the credits of an answer that is being written: its next token waits behind the chunks in
//! flight, one for each stage and one more, and not behind the whole prompt. The number of steps that a
//! stage can ever be asked to hold is thereby bounded: see [`super::steps_in_flight_max`].
//!
//! A finished conversation's cache stays in its sequence until the room is needed. A follow-up goes to the
//! sequence that shares the longest beginning with it and reads only what is new.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::chat::{Answer, Ask, FailureReason, Figures, Finish, RefusalReason};
use crate::plan::Plan;
use crate::wire::{self, CacheOp, Run, Step};
use crate::{PeerId, RequestId, SequenceId, StepId, text};

use super::{OutEvent, Pick, REASON_BYTES_MAX, Sample, Token, decode_steps_max, prefill_steps_max};

/// Questions that may be open or waiting. A guess: more than a group of twelve asks at once.
const REQUESTS_MAX: usize = 64;

/// Tokens in a chunk of an answer that had been written before. Of fewer than 64 rows llama.cpp attends to each by itself
/// (`GGML_FA_TILE_Q`), as it did when they were written: so the same bits come of them. Half of that, so that stages have
/// something to do side by side.
const WRITTEN_CHUNK_TOKENS: u32 = 32;

/// The ends' side of the ring.
#[derive(Debug)]
pub(super) struct Head<H> {
    plan: Arc<Plan>,
    /// Why nothing can be answered any more.
    broken: Option<FailureReason>,
    requests: BTreeMap<RequestId, Request>,
    /// Questions that wait for a sequence, oldest first.
    queue: VecDeque<RequestId>,
    /// Answers whose next step waits for a credit, oldest first.
    ready: VecDeque<RequestId>,
    /// Prompts that are being read, the one whose turn it is first.
    reading: VecDeque<RequestId>,
    sequences: Vec<Sequence>,
    /// How many positions stay in the caches of sequences that begin anew: goes out with the next step,
    /// and counts only once for each however often they begin before it.
    truncated: BTreeMap<SequenceId, u32>,
    next_step: StepId,
    in_flight: BTreeMap<StepId, InFlight>,
    events: VecDeque<OutEvent<H>>,
}

#[derive(Debug)]
struct Request {
    ask: Arc<Ask>,
    state: State,
    asked_at: Instant,
    first_token_at: Option<Instant>,
    last_token_at: Option<Instant>,
    figures: Figures,
    /// Whether nobody else had a question open as long as this one was.
    is_alone: bool,
    /// Bytes sent for decode steps, this request's share.
    decode_bytes: u64,
}

/// Where a question stands.
#[derive(Debug)]
enum State {
    /// The ends turn it into tokens.
    Opening,
    /// It waits for a sequence.
    Queued { prompt: Vec<Token> },
    /// Its prompt goes round in chunks; `sent` tokens are on their way or in the cache.
    Reading {
        index: usize,
        prompt: Vec<Token>,
        sent: u32,
    },
    /// Its answer is being written; `next` is the token that goes round next.
    Writing { index: usize, next: Token },
    /// Its asker has been told the end; steps of it are still in flight. `index` is its sequence.
    Leaving { index: Option<usize> },
}

/// One place for a conversation's cache, the same on every stage.
#[derive(Debug)]
struct Sequence {
    /// Tokens that the cache holds once all steps sent have run.
    tokens: Vec<Token>,
    user: Option<RequestId>,
    steps_in_flight: u32,
    /// When it was given up; `None` if it never was used.
    idle_since: Option<Instant>,
}

#[derive(Debug)]
struct InFlight {
    kind: Kind,
    /// Whose tokens go round, in the order of the step's runs.
    parts: Vec<Part>,
    /// Whether the ring has given it back, and with it its credit.
    returned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prefill,
    Decode,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    request: RequestId,
    index: usize,
    run: Run,
}

impl<H> Head<H> {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let sequences = (0..plan.n_sequences).map(|_| Sequence {
            tokens: Vec::new(),
            user: None,
            steps_in_flight: 0,
            idle_since: None,
        });

        Self {
            sequences: sequences.collect(),
            plan,
            broken: None,
            requests: BTreeMap::new(),
            queue: VecDeque::new(),
            ready: VecDeque::new(),
            reading: VecDeque::new(),
            truncated: BTreeMap::new(),
            next_step: StepId(0),
            in_flight: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn poll(&mut self) -> Option<OutEvent<H>> {
        self.events.pop_front()
    }

    pub(super) fn is_idle(&self) -> bool {
        let sequences_are_idle = || {
            let mut sequences = self.sequences.iter();
            sequences.all(|s| s.user.is_none() && s.steps_in_flight == 0)
        };
        let nothing_waits =
            self.queue.is_empty() && self.ready.is_empty() && self.reading.is_empty();

        // What a broken ring held is never touched again.
        self.requests.is_empty()
            && self.in_flight.is_empty()
            && nothing_waits
            && (self.broken.is_some() || sequences_are_idle())
    }

    pub(super) fn ask(&mut self, request: RequestId, ask: Arc<Ask>, now: Instant) {
        if let Some(reason) = &self.broken {
            let answer = Answer::Failed(reason.clone());
            return self.answer(request, answer);
        }
        if self.requests.contains_key(&request) {
            let reason = RefusalReason::Invalid("this question is open already".into());
            return self.answer(request, Answer::Refused(reason));
        }
        if let Err(reason) = ask.validate().and_then(|()| self.room_for_one_more()) {
            return self.answer(request, Answer::Refused(reason));
        }

        let is_alone = self.requests.is_empty();
        for other in self.requests.values_mut() {
            other.is_alone = false;
        }
        self.requests.insert(
            request,
            Request {
                ask: Arc::clone(&ask),
                state: State::Opening,
                asked_at: now,
                first_token_at: None,
                last_token_at: None,
                figures: Figures::default(),
                is_alone,
                decode_bytes: 0,
            },
        );
        self.events.push_back(OutEvent::Open { request, ask });
    }

    pub(super) fn opened(&mut self, request: RequestId, prompt: Vec<Token>) {
        let n_ctx = self.plan.n_ctx;
        let Some(entry) = self.requests.get_mut(&request) else {
            return self.events.push_back(OutEvent::Close { request });
        };
        if !matches!(entry.state, State::Opening) {
            return self.forget_if_drained(request);
        }

        let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        entry.figures.prompt_tokens = prompt_tokens;
        let refusal = if prompt.is_empty() {
            Some(RefusalReason::PromptEmpty)
        } else if prompt_tokens >= n_ctx {
            Some(RefusalReason::PromptTooLong {
                prompt_tokens,
                n_ctx,
            })
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.events.push_back(OutEvent::Close { request });
            return self.refused(request, reason);
        }

        entry.state = State::Queued { prompt };
        self.queue.push_back(request);
        self.give_sequences();
        if let Some(ahead) = self.queue.iter().position(|&waiting| waiting == request) {
            let ahead = u32::try_from(ahead).expect("the queue is bounded") + 1;
            self.answer(request, Answer::Queued { ahead });
        }
        self.send_steps();
    }

    pub(super) fn refused(&mut self, request: RequestId, reason: RefusalReason) {
        let reason = match reason {
            // A template's words may have any length; an answer's frame has not.
            RefusalReason::Invalid(why) => {
                RefusalReason::Invalid(text::clean(&why, REASON_BYTES_MAX))
            }
            other @ (RefusalReason::PromptTooLong { .. }
            | RefusalReason::PromptEmpty
            | RefusalReason::Busy { .. }
            | RefusalReason::NoModel) => other,
        };
        if let Some(entry) = self.requests.remove(&request)
            && !matches!(entry.state, State::Leaving { .. })
        {
            self.answer(request, Answer::Refused(reason));
        }
    }

    pub(super) fn cancel(&mut self, request: RequestId, now: Instant) {
        if self.requests.contains_key(&request) {
            self.end(request, Ok(Finish::Cancelled), now);
            self.send_steps();
        }
    }

    /// A phone that computes nothing is gone: nobody waits for what it asked. Should it hear that all the same, as one does
    /// whose network was away for a moment, it asks again.
    pub(super) fn asker_lost(&mut self, phone: PeerId, now: Instant) {
        let asked = self.requests.keys().filter(|r| r.asker == phone);

        for request in asked.copied().collect::<Vec<_>>() {
            self.end(request, Err(FailureReason::HeadLost), now);
        }
        self.send_steps();
    }

    pub(super) fn embedded(&mut self, step: StepId, hidden: H) {
        if !self.in_flight.contains_key(&step) {
            return; // the ring broke meanwhile
        }

        self.events.push_back(OutEvent::SendActivation {
            to: self.plan.stages[0].phone,
            epoch: self.plan.epoch,
            step,
            hidden,
        });
    }

    /// A step has come round: its credit is free, and what it was for can be sampled.
    pub(super) fn returned(&mut self, id: StepId, hidden: H) {
        let Some(step) = self.in_flight.get_mut(&id) else {
            // Of an answer that broke off meanwhile, as a rule.
            return tracing::info!(step = %id, "Return of a step that is not in flight, dropped");
        };
        if std::mem::replace(&mut step.returned, true) {
            return tracing::warn!(step = %id, "Step returned twice, dropped");
        }

        let picks = self.picks_of(id);
        self.report_reading(id);
        if picks.is_empty() {
            self.finish_step(id);
        } else {
            self.events.push_back(OutEvent::Sample {
                step: id,
                hidden,
                picks,
            });
        }
        self.send_steps();
    }

    pub(super) fn sampled(&mut self, id: StepId, samples: Vec<Sample>, now: Instant) {
        let Some(step) = self.in_flight.get(&id) else {
            return; // the ring broke meanwhile
        };
        let wanted = step.parts.iter().filter(|part| part.run.n_wanted > 0);
        let requests = wanted.map(|part| part.request).collect::<Vec<_>>();

        for (request, sample) in requests.into_iter().zip(samples) {
            self.write(request, sample, now);
        }
        self.finish_step(id);
        self.send_steps();
    }

    /// Breaks off every answer: the ring cannot go on.
    pub(super) fn fail(&mut self, reason: &FailureReason) {
        for (request, entry) in std::mem::take(&mut self.requests) {
            if !matches!(entry.state, State::Leaving { .. }) {
                self.answer(request, Answer::Failed(reason.clone()));
            }
            self.events.push_back(OutEvent::Close { request });
        }

        self.queue.clear();
        self.ready.clear();
        self.reading.clear();
        self.in_flight.clear();
        self.broken.get_or_insert_with(|| reason.clone());
    }

    fn room_for_one_more(&self) -> Result<(), RefusalReason> {
        if self.requests.len() < REQUESTS_MAX {
            return Ok(());
        }

        Err(RefusalReason::Busy {
            waiting: u32::try_from(self.requests.len()).expect("bounded by REQUESTS_MAX"),
        })
    }

    /// Lets waiting questions into idle sequences, oldest first.
    fn give_sequences(&mut self) {
        while let Some(&request) = self.queue.front() {
            let Some(entry) = self.requests.get(&request) else {
                unreachable!("a request leaves the queue before it is forgotten");
            };
            let State::Queued { prompt } = &entry.state else {
                unreachable!("only queued requests are in the queue");
            };
            let Some((index, shared)) = self.best_sequence(prompt) else {
                return;
            };

            self.queue.pop_front();
            self.start_reading(request, index, shared);
        }
    }

    /// Returns the idle sequence for a prompt, with how many of its tokens the prompt starts with.
    ///
    /// A conversation that goes on finds its own; anything else takes the place that is missed least.
    fn best_sequence(&self, prompt: &[Token]) -> Option<(usize, usize)> {
        let idle = self.sequences.iter().enumerate();
        let idle = idle.filter(|(_, s)| s.user.is_none() && s.steps_in_flight == 0);

        idle.map(|(index, sequence)| {
            // One token at least must go round, or there is nothing to sample from.
            let shared = shared_beginning(&sequence.tokens, prompt).min(prompt.len() - 1);
            let goes_on = !sequence.tokens.is_empty() && 2 * shared >= sequence.tokens.len();
            let kept = if goes_on { shared } else { 0 };
            (kept, Reverse(sequence.idle_since), Reverse(index), shared)
        })
        .max()
        .map(|(_, _, Reverse(index), shared)| (index, shared))
    }

    fn start_reading(&mut self, request: RequestId, index: usize, shared: usize) {
        let sequence = &mut self.sequences[index];
        let shared_u32 = u32::try_from(shared).expect("a prompt is shorter than n_ctx");
        if shared < sequence.tokens.len() {
            self.truncated.insert(sequence_id(index), shared_u32);
            sequence.tokens.truncate(shared);
        }
        sequence.user = Some(request);

        let entry = self.requests.get_mut(&request).expect("it was queued");
        let State::Queued { prompt } = std::mem::replace(&mut entry.state, State::Opening) else {
            unreachable!("only queued requests are given a sequence");
        };
        entry.figures.cached_tokens = shared_u32;
        entry.state = State::Reading {
            index,
            prompt,
            sent: shared_u32,
        };
        self.reading.push_back(request);
    }

    /// Spends the credits that there are: answers first, then prompts in turn.
    fn send_steps(&mut self) {
        if self.broken.is_some() {
            return;
        }

        while !self.ready.is_empty() {
            let credits = self.credits(Kind::Decode);
            if credits == 0 {
                break;
            }
            // Answers that wait share the free credits evenly, so that stages work side by side.
            let n_runs = self.ready.len().div_ceil(credits);
            let parts = self
                .ready
                .drain(..n_runs.min(self.plan.chunk_tokens as usize))
                .collect::<Vec<_>>();
            self.send_decode(&parts);
        }

        while self.credits(Kind::Prefill) > 0
            && let Some(request) = self.reading.pop_front()
        {
            self.send_chunk(request);
        }
    }

    /// Returns how many more steps of `kind` may go round.
    fn credits(&self, kind: Kind) -> usize {
        let out = self.in_flight.values();
        let out = out.filter(|step| step.kind == kind && !step.returned);
        let purse = match kind {
            Kind::Prefill => prefill_steps_max(&self.plan),
            Kind::Decode => decode_steps_max(&self.plan),
        };

        purse - out.count()
    }

    fn send_decode(&mut self, requests: &[RequestId]) {
        let mut parts = Vec::with_capacity(requests.len());
        let mut tokens = Vec::with_capacity(requests.len());

        for &request in requests {
            let State::Writing { index, next } = self.requests[&request].state else {
                unreachable!("only answers that are being written are ready");
            };
            parts.push(self.part(request, index, 1, 1));
            tokens.push(next);
            self.sequences[index].tokens.push(next);
        }

        self.send_step(Kind::Decode, parts, tokens);
    }

    fn send_chunk(&mut self, request: RequestId) {
        let chunk_tokens = self.plan.chunk_tokens;
        let entry = self.requests.get_mut(&request).expect("it is being read");
        let State::Reading {
            index,
            prompt,
            sent,
        } = &mut entry.state
        else {
            unreachable!("only prompts that are being read are in turn");
        };

        let (index, start) = (*index, *sent as usize);
        // The chunks of the prompt itself are as they were.
        let n_prompt = prompt.len().saturating_sub(entry.ask.written.len());
        let end = if start < n_prompt {
            n_prompt.min(start + chunk_tokens as usize)
        } else {
            let chunk_tokens = chunk_tokens.min(WRITTEN_CHUNK_TOKENS);
            prompt.len().min(start + chunk_tokens as usize)
        };
        let tokens = prompt[start..end].to_vec();
        let done = end == prompt.len();
        *sent = u32::try_from(end).expect("a prompt is shorter than n_ctx");

        let n_tokens = u32::try_from(tokens.len()).expect("at most chunk_tokens");
        let part = self.part(request, index, n_tokens, u32::from(done));
        self.sequences[index].tokens.extend_from_slice(&tokens);
        if !done {
            self.reading.push_back(request);
        }
        self.send_step(Kind::Prefill, vec![part], tokens);
    }

    fn part(&self, request: RequestId, index: usize, n_tokens: u32, n_wanted: u32) -> Part {
        let position = self.sequences[index].tokens.len();
        let run = Run {
            sequence: sequence_id(index),
            position: u32::try_from(position).expect("positions are below n_ctx"),
            n_tokens,
            n_wanted,
        };

        Part {
            request,
            index,
            run,
        }
    }

    /// Sends a header to every stage, early, and has the tokens embedded.
    fn send_step(&mut self, kind: Kind, parts: Vec<Part>, tokens: Vec<Token>) {
        let id = self.next_step;
        self.next_step.0 += 1;
        let truncated = std::mem::take(&mut self.truncated).into_iter();
        let cache_ops = truncated.map(|(sequence, n_positions)| CacheOp::Truncate {
            sequence,
            n_positions,
        });
        let step = Arc::new(Step {
            epoch: self.plan.epoch,
            id,
            cache_ops: cache_ops.collect(),
            runs: parts.iter().map(|part| part.run).collect(),
        });

        if kind == Kind::Decode {
            self.count_bytes(&step, &parts);
        }
        for part in &parts {
            self.sequences[part.index].steps_in_flight += 1;
        }
        self.in_flight.insert(
            id,
            InFlight {
                kind,
                parts,
                returned: false,
            },
        );

        let direct = if self.plan.relay_headers {
            1
        } else {
            self.plan.stages.len()
        };
        for stage in &self.plan.stages[..direct] {
            self.events.push_back(OutEvent::SendStep {
                to: stage.phone,
                step: Arc::clone(&step),
            });
        }
        self.events.push_back(OutEvent::Embed { step: id, tokens });
    }

    /// Notes what a decode step costs on the wire, shared evenly by the answers in it.
    fn count_bytes(&mut self, step: &Step, parts: &[Part]) {
        let n_headers = self.plan.phones().filter(|&p| p != self.plan.head).count();
        let bytes = n_headers * wire::step_frame_bytes(step)
            + self.plan.n_hops()
                * wire::activation_frame_bytes(
                    parts.len(),
                    self.plan.n_embd as usize,
                    self.plan.activation,
                );

        for part in parts {
            let entry = self.requests.get_mut(&part.request).expect("just sent");
            entry.decode_bytes += (bytes / parts.len()) as u64;
        }
    }

    fn picks_of(&self, id: StepId) -> Vec<Pick> {
        let parts = self.in_flight[&id].parts.iter();

        parts
            .filter(|part| part.run.n_wanted > 0)
            .map(|part| {
                let position = part.run.position + part.run.n_tokens;
                let entry = self.requests.get(&part.request);
                Pick {
                    request: part.request,
                    sequence: part.run.sequence,
                    position,
                    last: entry.is_none_or(|entry| self.ends_at(entry, position)),
                }
            })
            .collect()
    }

    /// Returns whether the token at `position` is the last that a request can have.
    fn ends_at(&self, entry: &Request, position: u32) -> bool {
        let n_written = u32::try_from(entry.ask.written.len()).unwrap_or(u32::MAX);

        n_written.saturating_add(entry.figures.completion_tokens) + 1 >= entry.ask.max_tokens
            || position + 1 >= self.plan.n_ctx
    }

    /// Tells an asker how much of the prompt has been read.
    fn report_reading(&mut self, id: StepId) {
        let step = &self.in_flight[&id];
        if step.kind != Kind::Prefill {
            return;
        }

        for part in step.parts.clone() {
            if let Some(entry) = self.requests.get(&part.request)
                && matches!(entry.state, State::Reading { .. })
            {
                let done = part.run.position + part.run.n_tokens;
                let total = entry.figures.prompt_tokens;
                self.answer(part.request, Answer::Reading { done, total });
            }
        }
    }

    /// Goes on with an answer by one token.
    fn write(&mut self, request: RequestId, sample: Sample, now: Instant) {
        let Some(entry) = self.requests.get(&request) else {
            return;
        };
        let index = match entry.state {
            State::Reading { index, .. } | State::Writing { index, .. } => index,
            State::Leaving { .. } => return,
            State::Opening | State::Queued { .. } => unreachable!("it has had a step"),
        };
        let position = u32::try_from(self.sequences[index].tokens.len()).expect("below n_ctx");
        let last = self.ends_at(entry, position);

        let entry = self.requests.get_mut(&request).expect("just seen");
        entry.state = State::Writing {
            index,
            next: sample.token,
        };
        entry.figures.completion_tokens += 1;
        entry.first_token_at.get_or_insert(now);
        entry.last_token_at = Some(now);
        self.answer(
            request,
            Answer::Token {
                token: sample.token,
                text: sample.text,
            },
        );

        if sample.end {
            self.end(request, Ok(Finish::Stop), now);
        } else if last {
            self.end(request, Ok(Finish::Length), now);
        } else {
            self.ready.push_back(request);
        }
    }

    /// Tells an asker that its answer has ended; what it held is freed once no step of it is in flight.
    fn end(&mut self, request: RequestId, how: Result<Finish, FailureReason>, now: Instant) {
        let Some(entry) = self.requests.get_mut(&request) else {
            return;
        };
        let index = match entry.state {
            State::Reading { index, .. } | State::Writing { index, .. } => Some(index),
            State::Opening | State::Queued { .. } => None,
            State::Leaving { .. } => return,
        };
        let opening = matches!(entry.state, State::Opening);
        let figures = entry.final_figures();
        let is_alone = entry.is_alone;
        entry.state = State::Leaving { index };

        self.queue.retain(|&other| other != request);
        self.ready.retain(|&other| other != request);
        self.reading.retain(|&other| other != request);
        let is_written = matches!(how, Ok(Finish::Stop | Finish::Length));
        let answer = how.map_or_else(Answer::Failed, |finish| Answer::Done { finish, figures });
        self.answer(request, answer);
        if is_alone && is_written {
            self.events.push_back(OutEvent::Answered(figures));
        }

        if let Some(index) = index {
            self.sequences[index].idle_since = Some(now);
        }
        if !opening {
            self.forget_if_drained(request);
        }
    }

    fn finish_step(&mut self, id: StepId) {
        let step = self.in_flight.remove(&id).expect("it was in flight");

        for part in step.parts {
            self.sequences[part.index].steps_in_flight -= 1;
            self.forget_if_drained(part.request);
        }
    }

    /// Forgets a request that is leaving and has no step in flight, and gives its sequence to the next.
    fn forget_if_drained(&mut self, request: RequestId) {
        let Some(Request {
            state: State::Leaving { index },
            ..
        }) = self.requests.get(&request)
        else {
            return;
        };
        let index = *index;
        if index.is_some_and(|i| self.sequences[i].steps_in_flight > 0) {
            return;
        }

        if let Some(index) = index {
            self.sequences[index].user = None;
        }
        self.requests.remove(&request);
        self.events.push_back(OutEvent::Close { request });
        self.give_sequences();
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        self.events.push_back(OutEvent::Answer { request, answer });
    }
}

impl Request {
    fn final_figures(&self) -> Figures {
        let mut figures = self.figures;
        let n_tokens = figures.completion_tokens;

        if let (Some(first), Some(last)) = (self.first_token_at, self.last_token_at) {
            figures.ttft_ms = millis(first - self.asked_at);
            if n_tokens > 1 {
                figures.tpot_ms = millis(last - first) / f64::from(n_tokens - 1);
                figures.bytes_per_token = self.decode_bytes / u64::from(n_tokens - 1);
            }
        }

        figures
    }
}

fn millis(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn sequence_id(index: usize) -> SequenceId {
    SequenceId(u32::try_from(index).expect("at most SEQUENCES_MAX"))
}

fn shared_beginning(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
