//! Answers that are being written on this phone.
//!
//! ```text
//!                 the run is ready            last word
//!  asked ─► waits ────────────────► is open ───────────► ended
//!             ▲                        │
//!             └── a phone was lost ────┘   what was written is read by the phones that are left, and the answer
//!                                          goes on as it would have
//! ```
//!
//! Every word is written down before a screen hears it.

use std::collections::BTreeMap;
use std::time::Duration;

use node::start::Answers;
use proto::PeerId;
use proto::chat::{Answer, Ask, FailureReason, RefusalReason};
use proto::relay::ClientId;
use proto::standing::RunPhase;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::listeners::Listeners;
use super::request::Reply;
use super::worker::Worker;
use crate::answering::{Ended, Writing, ask_of, figures_of};
use crate::api::{
    AnswerEvent, AnswerOutcome, ConversationId, Figures, Message, MessageBody, MessageId, Notice,
    Problem, Question, QuestionStage,
};
use crate::clock;
use crate::history::HistoryError;
use crate::view::{ids, running};

/// How long a question waits for a model that is being made ready, or ready again. A model of 3 GB takes two minutes
/// from one phone to another.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long an answer may take to end once it is stopped: the head may be gone.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How often a question may break off under way, with no new text between: it may be what the phones are lost by.
const LOSSES_MAX: u32 = 3;

/// Largest seed: whole numbers in JavaScript end there.
const SEED_MAX: u64 = 1 << 53;

/// A word of an answer, and whose.
#[derive(Debug)]
pub struct Word {
    conversation: ConversationId,
    client: ClientId,
    answer: Answer,
}

/// An answer that is being written.
#[derive(Debug)]
pub struct Open {
    id: MessageId,
    begun_unix_ms: u64,
    ask: Ask,
    /// The model that was asked first: what was written are its tokens.
    model: Option<proto::ModelId>,
    writing: Writing,
    /// What was written and handed on.
    text: String,
    events: Listeners<AnswerEvent>,
    state: State,
    /// How often it broke off under way since text came last.
    n_losses: u32,
    /// Until when it waits for phones to be ready again: since it first broke off after text came last.
    until: Option<Instant>,
    /// When a person wanted no more of it.
    stopped_at: Option<Instant>,
}

/// Whether the model is asked.
#[derive(Debug)]
enum State {
    /// It is waited for, until this time. Asked when the run is seen to be ready.
    Waits { until: Instant },
    /// It is.
    Asked { client: ClientId },
}

impl Worker {
    /// Takes a question: writes it down, and asks the model when it is ready.
    pub(super) async fn ask(
        &mut self,
        question: Question,
        reply: Reply<mpsc::UnboundedReceiver<AnswerEvent>>,
    ) {
        let begun = match self.begin(&question).await {
            Ok((open, heard)) => {
                self.answers.insert(question.conversation, open);
                self.recount().await;
                Ok(heard)
            }
            Err(problem) => Err(problem),
        };
        let _ = reply.send(begun); // nobody may wait for it

        self.ask_if_ready().await;
    }

    async fn begin(
        &mut self,
        question: &Question,
    ) -> Result<(Open, mpsc::UnboundedReceiver<AnswerEvent>), Problem> {
        if self.answers.contains_key(&question.conversation) {
            return Err(Problem::Busy);
        }
        self.check_run()?;

        let (asked, name, now) = (question.clone(), self.name().to_string(), clock::unix_ms());
        let taken = self.history.run(move |archive| {
            // There may have been no room for the last one's end.
            archive.end_left(Some(&asked.conversation))?;
            let begun = archive.begin(&asked, &name, now)?;
            Ok((begun, archive.load(&asked.conversation)?))
        });
        let (begun, conversation) = taken.await.map_err(|error| error.problem())?;
        let ask = ask_of(&conversation, self.luck.random_range(0..SEED_MAX));

        let events = Listeners::with(vec![AnswerEvent::Begun {
            dropped_from: begun.dropped_from,
            added: begun.added,
        }]);
        let heard = events.join();
        let open = Open {
            id: begun.answer,
            begun_unix_ms: now,
            ask,
            model: None,
            writing: Writing::new(),
            text: String::new(),
            events,
            state: State::Waits {
                until: Instant::now() + PATIENCE,
            },
            n_losses: 0,
            until: None,
            stopped_at: None,
        };
        Ok((open, heard))
    }

    /// Returns the stream of an answer that is being written, as if from its beginning.
    pub(super) fn watch_answer(
        &self,
        conversation: &ConversationId,
    ) -> Option<mpsc::UnboundedReceiver<AnswerEvent>> {
        let open = self.answers.get(conversation)?;

        Some(open.events.join_after(open.so_far()))
    }

    /// Says why nothing can be asked at all.
    fn check_run(&self) -> Result<(), Problem> {
        match self.view.board().run.as_ref().map(|run| run.phase) {
            None => Err(Problem::NoModel),
            Some(RunPhase::Failed(trouble)) if !is_passing(RunPhase::Failed(trouble)) => {
                Err(running::problem_of(trouble))
            }
            Some(_) => Ok(()),
        }
    }

    /// What is run has changed: questions that wait are asked, or have waited in vain.
    pub(super) async fn run_changed(&mut self) {
        if let Err(problem) = self.check_run() {
            let waiting = self.answers.iter().filter(|(_, open)| open.waits());
            let waiting = waiting.map(|(id, _)| id.clone()).collect::<Vec<_>>();
            for conversation in waiting {
                self.finish(&conversation, Ended::failed(problem.clone()))
                    .await;
            }
        }

        self.ask_if_ready().await;
    }

    /// Asks the questions that wait, if there is somebody to ask.
    async fn ask_if_ready(&mut self) {
        let run = self.view.board().run.as_ref();
        let is_ready = run.is_some_and(|run| run.phase == RunPhase::Ready);
        let Ok(handle) = self.handle() else {
            return;
        };

        let model = run.and_then(|run| run.model);
        let ring = self.view.computing();
        let mut over = Vec::new();
        for (conversation, open) in self.answers.iter_mut().filter(|_| is_ready) {
            if !open.waits() {
                continue;
            }
            if let Some(ended) = open.cannot_go_on(model) {
                over.push((conversation.clone(), ended));
                continue;
            }
            let (client, answers) = handle.ask(open.ask.clone()).await;
            open.writing
                .is_asked(ring.clone(), Instant::now().into_std());
            open.state = State::Asked { client };
            let words = self.words_in.clone();
            tokio::spawn(carry(conversation.clone(), client, answers, words));
        }
        for (conversation, ended) in over {
            self.finish(&conversation, ended).await;
        }
    }

    /// A word came.
    pub(super) async fn word(&mut self, word: Word) {
        let Some(open) = self.answers.get_mut(&word.conversation) else {
            return; // stopped meanwhile
        };
        if open.client() != Some(word.client) {
            return; // of an ask before
        }
        self.changed = true;
        if is_interrupted(&word.answer) {
            return match open.stopped_at {
                None => self.interrupted(&word.conversation).await,
                Some(_) => self.finish(&word.conversation, Ended::stopped()).await,
            };
        }
        let is_full = matches!(
            word.answer,
            Answer::Refused(RefusalReason::PromptTooLong { .. })
        );
        if is_full && !open.ask.written.is_empty() {
            // It has used up the context; what broke off was the word that it has.
            return self.finish(&word.conversation, Ended::cut_off()).await;
        }

        if let Answer::Token { token, .. } = word.answer {
            open.ask.written.push(token);
        }
        match open.writing.hear(word.answer, Instant::now().into_std()) {
            Ok(Some(event)) => {
                if open.text.is_empty() {
                    open.events.tell(&event);
                }
            }
            Ok(None) => {}
            Err(ended) => self.finish(&word.conversation, ended).await,
        }
    }

    /// An answer broke off: it is asked for again, unless it keeps breaking off where it is.
    async fn interrupted(&mut self, conversation: &ConversationId) {
        if let Err(problem) = self.hand_on(conversation).await {
            return self.finish(conversation, Ended::failed(problem)).await;
        }
        let Some(open) = self.answers.get_mut(conversation) else {
            return;
        };

        if open.waits_again(Instant::now()) {
            tracing::info!("An answer was interrupted, and is asked for again");
        } else {
            tracing::warn!("An answer keeps breaking off where it is, and is given up");
            let ended = Ended::failed(Problem::PhonesGone { phones: 1 });
            self.finish(conversation, ended).await;
        }
    }

    /// Returns whether there are words to hand on.
    pub(super) fn has_words(&self) -> bool {
        self.answers.values().any(|open| open.writing.has_text())
    }

    /// Writes words down, and hands them on.
    pub(super) async fn hand_words_on(&mut self) {
        let with_words = self.answers.iter();
        let with_words = with_words.filter(|(_, open)| open.writing.has_text());
        let conversations = with_words.map(|(id, _)| id.clone()).collect::<Vec<_>>();

        for conversation in conversations {
            if let Err(problem) = self.hand_on(&conversation).await {
                self.cancel(&conversation).await;
                self.finish(&conversation, Ended::failed(problem)).await;
            }
        }
    }

    async fn hand_on(&mut self, conversation: &ConversationId) -> Result<(), Problem> {
        let Some(open) = self.answers.get_mut(conversation) else {
            return Ok(());
        };
        let text = open.writing.take_text();
        if text.is_empty() {
            return Ok(());
        }

        let (id, written) = (open.id.clone(), text.clone());
        self.history
            .run(move |archive| archive.append(&id, &written))
            .await
            .map_err(|error| error.problem())?;
        if let Some(open) = self.answers.get_mut(conversation) {
            open.writes(&text);
            open.events.tell(&AnswerEvent::Text { text });
        }
        Ok(())
    }

    /// Ends an answer: writes down how, and tells.
    pub(super) async fn finish(&mut self, conversation: &ConversationId, ended: Ended) {
        let ended = match self.hand_on(conversation).await {
            Ok(()) => ended,
            Err(problem) => Ended::failed(problem),
        };
        let Some(open) = self.answers.remove(conversation) else {
            return;
        };
        let figures = ended.cost.map(|cost| self.figures(&cost, &open.writing));
        let now = clock::unix_ms();

        let (id, outcome, kept) = (open.id.clone(), ended.outcome.clone(), figures.clone());
        let written = self
            .history
            .run(move |archive| archive.end(&id, outcome, kept.as_ref(), now))
            .await;
        let message = written.unwrap_or_else(|error| {
            // Its conversation was deleted, as a rule.
            tracing::info!(%error, "The end of an answer cannot be kept");
            open.message(open.text.clone(), ended.outcome, figures)
        });
        open.events.tell(&AnswerEvent::End { message });
        self.recount().await;
    }

    fn figures(&self, cost: &proto::chat::Figures, writing: &Writing) -> Figures {
        let run = self.view.board().run.as_ref();
        let name = run.map_or_else(String::new, |run| run.name.to_string());
        let phones = writing.phones().into_iter();
        let phones = phones.map(|phone| self.view.name_of(phone));

        figures_of(cost, name, phones.collect(), node::work::CONTEXT_TOKENS)
    }

    /// A person wants no more of an answer.
    pub(super) async fn stop_answer(&mut self, conversation: &ConversationId) {
        let Some(open) = self.answers.get_mut(conversation) else {
            return; // it has ended meanwhile
        };
        if open.waits() {
            return self.finish(conversation, Ended::stopped()).await;
        }

        open.stopped_at.get_or_insert_with(Instant::now);
        self.cancel(conversation).await;
    }

    async fn cancel(&self, conversation: &ConversationId) {
        let client = self.answers.get(conversation).and_then(Open::client);

        if let (Some(client), Ok(handle)) = (client, self.handle()) {
            handle.cancel(client).await;
        }
    }

    /// Ends an answer at once, without waiting for what its model says to that.
    pub(super) async fn give_up(&mut self, conversation: &ConversationId, ended: Ended) {
        if self.answers.contains_key(conversation) {
            self.cancel(conversation).await;
            self.finish(conversation, ended).await;
        }
    }

    /// The app ends, or is put away: keeps what there is of every answer.
    pub(super) async fn end_all_answers(&mut self) {
        let open = self.answers.iter();
        let open = open.map(|(id, open)| (id.clone(), open.stopped_at.is_some()));

        for (conversation, was_stopped) in open.collect::<Vec<_>>() {
            let ended = match was_stopped {
                true => Ended::stopped(),
                false => Ended::with_app(),
            };
            self.give_up(&conversation, ended).await;
        }
    }

    /// Returns when an answer is to be looked after, if nothing else happens.
    pub(super) fn answers_due(&self) -> Option<Instant> {
        self.answers.values().filter_map(Open::due).min()
    }

    /// Ends answers that have waited, or were stopped, for too long.
    pub(super) async fn tend_answers(&mut self, now: Instant) {
        let late = self.answers.iter();
        let late = late.filter(|(_, open)| open.due().is_some_and(|due| due <= now));
        let late = late.map(|(id, open)| (id.clone(), open.stopped_at.is_some()));

        for (conversation, was_stopped) in late.collect::<Vec<_>>() {
            let ended = match was_stopped {
                true => Ended::stopped(),
                false => Ended::failed(Problem::PhonesGone { phones: 1 }),
            };
            self.finish(&conversation, ended).await;
        }
    }

    /// Says in conversations in which an answer is being written what happened to the group.
    pub(super) async fn note_in_answers(&mut self, notice: &Notice) {
        let conversations = self.answers.keys().cloned().collect::<Vec<_>>();

        for conversation in conversations {
            let (id, what, now) = (conversation.clone(), notice.clone(), clock::unix_ms());
            let noted = self
                .history
                .run(move |archive| archive.note(&id, what, now))
                .await;
            match (noted, self.answers.get(&conversation)) {
                (Ok(message), Some(open)) => open.events.tell(&AnswerEvent::Notice { message }),
                (Err(error), _) => tracing::warn!(%error, "A notice cannot be kept"),
                (Ok(_), None) => {}
            }
        }
    }

    /// Returns what names the answers of questions under way: those of this phone by their messages.
    pub(super) fn answer_ids(&self) -> impl Fn(PeerId, u64) -> MessageId + use<> {
        let me = self.view.me();
        let asked = self.view.board().asked_here.iter();
        let of_client = |client: &ClientId| {
            let mut open = self.answers.values();
            let open = open.find(|open| open.client() == Some(*client));
            open.map(|open| open.id.clone())
        };
        let ids = asked.filter_map(|(number, client)| Some((*number, of_client(client)?)));
        let ids = ids.collect::<BTreeMap<_, _>>();

        move |asker, number| {
            let mine = (asker == me).then(|| ids.get(&number).cloned()).flatten();
            mine.unwrap_or_else(|| MessageId(format!("{}:{number}", ids::phone_id(asker).0)))
        }
    }

    /// Reads anew which conversations there are.
    pub(super) async fn recount(&mut self) {
        self.changed = true;

        match self.history.run(|archive| archive.conversations()).await {
            Ok(conversations) => self.conversations = conversations,
            Err(error) => tracing::error!(%error, "Conversations cannot be listed"),
        }
    }
}

impl Open {
    fn waits(&self) -> bool {
        matches!(self.state, State::Waits { .. })
    }

    fn client(&self) -> Option<ClientId> {
        match &self.state {
            State::Waits { .. } => None,
            State::Asked { client, .. } => Some(*client),
        }
    }

    /// Lets it wait to be asked again. Returns whether it may be.
    fn waits_again(&mut self, now: Instant) -> bool {
        let was_begun = !matches!(self.writing.stage(), QuestionStage::Waiting { .. });
        self.n_losses += u32::from(was_begun);
        let until = *self.until.get_or_insert(now + PATIENCE);
        self.state = State::Waits { until };

        self.n_losses < LOSSES_MAX
    }

    /// Notes new text.
    fn writes(&mut self, text: &str) {
        self.text.push_str(text);
        self.n_losses = 0;
        self.until = None;
    }

    fn due(&self) -> Option<Instant> {
        match (self.stopped_at, &self.state) {
            (Some(stopped_at), _) => Some(stopped_at + STOP_PATIENCE),
            (None, State::Waits { until }) => Some(*until),
            (None, State::Asked { .. }) => None,
        }
    }

    /// Returns how this answer ends if `model` is the one to go on with it, but cannot: what was written is another's,
    /// or as much as was wanted.
    fn cannot_go_on(&mut self, model: Option<proto::ModelId>) -> Option<Ended> {
        if self.ask.written.is_empty() {
            self.model = model;
        }

        if self.ask.written.len() >= self.ask.max_tokens as usize {
            Some(Ended::cut_off())
        } else if self.model != model {
            Some(Ended::failed(Problem::OtherModel))
        } else {
            None
        }
    }

    /// Returns what is heard by who takes it up where it is: the answer in place of what was loaded of it, and how far it
    /// is.
    fn so_far(&self) -> Vec<AnswerEvent> {
        let begun = AnswerEvent::Begun {
            dropped_from: Some(self.id.clone()),
            added: vec![self.message(String::new(), AnswerOutcome::UnderWay, None)],
        };
        let stage = match self.writing.stage() {
            _ if !self.text.is_empty() => AnswerEvent::Text {
                text: self.text.clone(),
            },
            QuestionStage::Waiting { ahead } => AnswerEvent::Queued { ahead },
            QuestionStage::Reading { done, total } => AnswerEvent::Reading { done, total },
            QuestionStage::Writing { .. } => return vec![begun], // its words are about to be handed on
        };

        vec![begun, stage]
    }

    /// Returns the answer as it would be kept.
    fn message(&self, text: String, outcome: AnswerOutcome, figures: Option<Figures>) -> Message {
        Message {
            id: self.id.clone(),
            at_unix_ms: self.begun_unix_ms,
            body: MessageBody::Answer {
                text,
                outcome,
                figures,
            },
        }
    }
}

/// Carries an answer's words to the worker.
async fn carry(
    conversation: ConversationId,
    client: ClientId,
    mut answers: Answers,
    words: mpsc::Sender<Word>,
) {
    while let Some(answer) = answers.next().await {
        let word = Word {
            conversation: conversation.clone(),
            client,
            answer,
        };
        if words.send(word).await.is_err() {
            return; // the session has ended
        }
    }
}

/// Returns whether an answer did not end of itself, and may go on when phones are others.
fn is_interrupted(answer: &Answer) -> bool {
    match answer {
        Answer::Failed(reason) => match reason {
            FailureReason::PhoneLost(_) | FailureReason::HeadLost | FailureReason::Replanned => {
                true
            }
            FailureReason::StageFailed { .. } | FailureReason::Stopped => false,
        },
        // The run was ready when it was asked: it is being made ready again.
        Answer::Refused(RefusalReason::NoModel) => true,
        Answer::Refused(_)
        | Answer::Queued { .. }
        | Answer::Reading { .. }
        | Answer::Token { .. }
        | Answer::Done { .. } => false,
    }
}

/// Returns whether a phase is one that ends by itself.
fn is_passing(phase: RunPhase) -> bool {
    use proto::standing::Trouble;

    match phase {
        RunPhase::Failed(Trouble::PhoneLost { .. }) => true,
        RunPhase::Failed(_) => false,
        RunPhase::Measuring | RunPhase::Preparing { .. } | RunPhase::Ready => true,
    }
}

/// Returns what a screen is told of the history's trouble.
pub(super) fn problem(error: HistoryError) -> Problem {
    error.problem()
}

#[cfg(test)]
mod tests {
    use proto::chat::{Prompt, Sampling};

    use super::*;

    fn open() -> Open {
        Open {
            id: MessageId("m".into()),
            begun_unix_ms: 0,
            ask: Ask {
                prompt: Prompt::Text(String::new()),
                max_tokens: 1,
                sampling: Sampling::default(),
                stop: Vec::new(),
                ignore_end: false,
                written: Vec::new(),
            },
            model: None,
            writing: Writing::new(),
            text: String::new(),
            events: Listeners::default(),
            state: State::Waits {
                until: Instant::now(),
            },
            n_losses: 0,
            until: None,
            stopped_at: None,
        }
    }

    fn begin(open: &mut Open) {
        let now = Instant::now().into_std();
        open.writing.is_asked(Vec::new(), now);
        let reading = open
            .writing
            .hear(Answer::Reading { done: 1, total: 2 }, now);
        assert!(reading.is_ok());
    }

    #[test]
    fn a_question_that_phones_are_lost_by_is_given_up() {
        let (mut open, now) = (open(), Instant::now());

        for may in [true, true, false] {
            begin(&mut open);
            assert_eq!(open.waits_again(now), may);
        }
        open.writes("a word");
        begin(&mut open);
        assert!(open.waits_again(now), "text came between");
    }

    #[test]
    fn a_question_that_nobody_takes_waits_no_longer_than_once() {
        let (mut open, now) = (open(), Instant::now());
        let due = now + PATIENCE;

        for late in 0..10 {
            open.writing.is_asked(Vec::new(), now.into_std());
            assert!(open.waits_again(now + Duration::from_secs(late)));
            assert_eq!(open.due(), Some(due));
        }
        open.writes("a word");
        assert!(open.waits_again(due));
        assert_eq!(open.due(), Some(due + PATIENCE));
    }

    #[test]
    fn an_answer_goes_on_with_its_own_model_and_no_longer_than_was_wanted() {
        let [one, other] = [1, 2].map(|n| Some(proto::ModelId([n; 32])));
        let mut open = open();
        open.ask.max_tokens = 2;

        assert_eq!(open.cannot_go_on(one), None);
        assert_eq!(open.cannot_go_on(other), None, "nothing was written yet");
        open.ask.written.push(7);
        assert_eq!(open.cannot_go_on(other), None);
        assert!(matches!(
            open.cannot_go_on(one).map(|ended| ended.outcome),
            Some(AnswerOutcome::Failed { .. })
        ));
        open.ask.written.push(8);
        assert_eq!(open.cannot_go_on(other), Some(Ended::cut_off()));
    }
}
