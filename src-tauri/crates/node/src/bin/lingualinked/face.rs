//! What a running phone shows, and what it is told: on standard input and output, and on its socket.
//!
//! What concerns everybody is shown to everybody; the words of an answer to whoever asked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use libp2p::Multiaddr;
use node::discovery::address;
use node::event_loop::{Event, ForecastNews};
use node::identity;
use node::start::{Answers, Handle};
use proto::PeerId;
use proto::chat::{Answer, Ask, Finish, Message, Prompt};
use proto::group::message::Presence;
use proto::group::{
    Command, GroupId, Invite, Name, OutEvent, Purpose, Secret, Side, TypedCode, When,
};
use proto::relay::ClientId;
use proto::ring::Notice;
use proto::standing::Board;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::Outcome;
use crate::args::{AnswerArgs, RunArgs};
use crate::askers::{Asker, Askers, Said};
use crate::interrupts::Interrupts;
use crate::lines::{self, Line, MemberLine, Order};
use crate::names::{self, AnswerLines, Names};
use crate::node_command::{Accept, Args, model_file};
use crate::phones::Phones;
use crate::terminal::{self, Screen};
use crate::typed::{self, Typed};
use crate::{folder, qr};

/// Words of all answers together that wait to be shown. Printing is quicker than computing: a guess.
const WORD_QUEUE: usize = 256;

/// For how long an invite lets somebody in: long enough to walk over and type it. A guess.
const INVITE_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// How long a phone that gives up stays, for the leader to hear why: a stream is opened and one message sent. Ten
/// round trips on a link of 50 ms.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The model that this phone has.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its file.
    pub path: PathBuf,
    /// What it is run with.
    pub run: RunArgs,
}

/// What is a phone's own.
#[derive(Debug)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub data: PathBuf,
    /// Its model.
    pub model: Option<Model>,
}

/// What this phone shows.
pub struct Face {
    names: Names,
    phones: Phones,
    /// Its folder, where its name is kept.
    data: PathBuf,
    /// The terminal, if a person sits at one.
    screen: Option<Screen>,
    me: PeerId,
    address: Multiaddr,
    /// Where other phones may reach it, without its id, the best first.
    addresses: Vec<Multiaddr>,
    local: String,
    json: bool,
    accept: Accept,
    model: Option<Model>,
    /// Phone that the command line says to join, until that has come to an end.
    joining: Option<PeerId>,
    /// Members that people were told do not answer.
    lost: BTreeSet<PeerId>,
    /// Phones that people were told cannot be reached; each is tried again and again.
    unreached: BTreeSet<String>,
    /// What people were told last of who is in the group: it is told anew when an address changes.
    told_members: String,
    /// Whether the command line says to run a model.
    must_run: bool,
    /// Whether there has been a plan in force.
    has_run: bool,
    members: Vec<MemberLine>,
    plan: Option<Line>,
    /// The last answer beside its forecast.
    measured: Option<Line>,
    /// How every member is, as it was told last.
    board: Board,
    /// What a model is run with.
    run: RunArgs,
    /// Who waits for a forecast, and what comes of it.
    forecast: Option<(Asker, mpsc::UnboundedReceiver<ForecastNews>)>,
    /// Answers that are being written, with what stops them.
    answers: BTreeMap<(Asker, u64), Open>,
    /// Programs that read along.
    programs: BTreeMap<Asker, mpsc::Sender<Line>>,
    /// What a person here has asked and was answered, and what they ask with.
    conversation: Vec<Message>,
    answer: AnswerArgs,
    n_asked: u64,
    /// Whether the last thing shown to a person was a word, with more to come.
    in_words: bool,
}

/// An answer on its way.
struct Open {
    lines: AnswerLines,
    client: ClientId,
    cancelled: bool,
}

/// A word of an answer, and whose.
type Word = ((Asker, u64), Answer);

impl Face {
    /// Makes the face of a phone that was started with `args`.
    pub fn new(args: &Args, own: Own, handle: &Handle, askers: &mut Askers) -> Self {
        Self {
            names: Names::of_phone(handle.me, own.name),
            phones: Phones::default(),
            data: own.data,
            screen: askers.screen.take(),
            me: handle.me,
            address: handle.address.clone(),
            addresses: Vec::new(),
            local: askers.local_address(),
            json: args.json,
            accept: args.accept,
            model: own.model,
            joining: None,
            lost: BTreeSet::new(),
            unreached: BTreeSet::new(),
            told_members: String::new(),
            must_run: args.run.is_some(),
            has_run: false,
            members: Vec::new(),
            plan: None,
            measured: None,
            board: Board::default(),
            run: args.sizes.clone(),
            forecast: None,
            answers: BTreeMap::new(),
            programs: BTreeMap::new(),
            conversation: Vec::new(),
            answer: args.answer.clone(),
            n_asked: 0,
            in_words: false,
        }
    }

    /// Shows where the phone can be reached.
    ///
    /// # Errors
    ///
    /// If nobody reads it.
    pub fn show_listening(&mut self) -> Result<()> {
        let line = Line::Listening {
            address: self.address.to_string(),
            local: self.local.clone(),
        };

        self.show(line)?;
        if self.screen.is_some() {
            let name = self.names.of(self.me);
            self.tell(&format!("This is {name}. `help` lists what can be said."))?;
        }
        Ok(())
    }

    /// Asks to be let into the group of the phone at an address; the phone ends if that fails.
    ///
    /// # Errors
    ///
    /// If the address names no phone.
    pub async fn join(&mut self, handle: &Handle, address: Multiaddr) -> Result<()> {
        self.joining = Some(handle.meet(address).await?);

        Ok(())
    }

    /// Shows events and takes orders until the phone is to stop.
    ///
    /// # Errors
    ///
    /// If the phone cannot do what it was started for, or nobody reads what it says.
    pub async fn serve(
        &mut self,
        handle: &Handle,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut askers: Askers,
        mut interrupts: Interrupts,
    ) -> Result<Outcome> {
        let (words_in, mut words) = mpsc::channel::<Word>(WORD_QUEUE);

        loop {
            tokio::select! {
                biased;
                () = interrupts.next() => if !self.stop_answers(handle).await {
                    return Ok(Outcome::Interrupted);
                },
                Some((id, answer)) = words.recv() => self.word(id, answer)?,
                event = events.recv() => {
                    let event = event.context("the phone has stopped by itself: this is a bug")?;
                    if self.event(handle, event).await?.is_break() {
                        return Ok(Outcome::Failed);
                    }
                }
                news = next_news(&mut self.forecast) => self.forecast_news(news)?,
                (asker, said) = askers.next() => match said {
                    Said::Order(Order::Stop) => return Ok(Outcome::Done),
                    Said::Interrupt => return Ok(Outcome::Interrupted),
                    Said::Typed(text) if typed::read(&text) == Typed::Quit => {
                        return Ok(Outcome::Done);
                    }
                    Said::Left if asker == Asker::Screen && self.json => return Ok(Outcome::Done),
                    said => self.hear(handle, asker, said, &words_in).await?,
                },
            }
            if !self.is_answering() {
                askers.give_turn();
            }
        }
    }

    /// Returns whether what a person here asked is being answered.
    fn is_answering(&self) -> bool {
        self.answers
            .keys()
            .any(|(asker, _)| *asker == Asker::Screen)
    }

    /// Stops what a person here asked; a program's Ctrl-C is meant for the phone. Returns whether there was anything
    /// to stop.
    async fn stop_answers(&mut self, handle: &Handle) -> bool {
        let mut any = false;
        let open = self.answers.iter_mut();
        let open = open.filter(|((asker, _), open)| *asker == Asker::Screen && !open.cancelled);

        for (_, open) in open.filter(|_| !self.json) {
            open.cancelled = true;
            handle.cancel(open.client).await;
            any = true;
        }
        any
    }

    /// Shows a word of an answer to whoever asked.
    fn word(&mut self, id: (Asker, u64), answer: Answer) -> Result<()> {
        let is_last = answer.is_last();
        let Some(open) = self.answers.get_mut(&id) else {
            return Ok(());
        };
        let line = open.lines.line(answer, &self.names);
        if is_last {
            self.answers.remove(&id);
        }
        if id.0 == Asker::Screen && !self.json {
            self.remember(&line);
        }

        self.show_to(id.0, line)
    }

    /// Shows an event and does what it calls for; breaks if nothing will ever run here: a phone cannot do its part
    /// of the first plan.
    async fn event(&mut self, handle: &Handle, event: Event) -> Result<ControlFlow<()>> {
        self.names.hear(&event);
        self.phones.hear(&event);
        self.check_join(&event)?;
        let hopeless = matches!(event, Event::CannotPlan { .. }) && self.must_run && !self.has_run;
        self.has_run |= matches!(event, Event::Notice(Notice::InForce { .. }));

        match event {
            Event::CannotSave(error) => return Err(error.into()),
            Event::Addresses(addresses) => self.readdressed(addresses)?,
            Event::Group(OutEvent::Match { peer, side, .. }) => {
                self.show_event(event)?;
                self.matched(handle, peer, side).await;
            }
            Event::Group(OutEvent::Invited {
                group,
                secret,
                lifetime,
            }) => self.invited(group, secret, lifetime)?,
            event => self.show_event(event)?,
        }

        Ok(if hopeless {
            sleep(LAST_WORDS).await;
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    /// Finds out whether this phone is in the group that the command line says.
    fn check_join(&mut self, event: &Event) -> Result<()> {
        let Some(joining) = self.joining else {
            return Ok(());
        };

        match event {
            Event::Group(OutEvent::Members(roster)) if roster.contains(joining) => {
                self.joining = None;
            }
            Event::Unreachable { phone, reason, .. } if *phone == joining => {
                bail!("the phone to join cannot be reached: {reason}");
            }
            Event::Group(OutEvent::PairingEnded { peer, .. }) if *peer == joining => {
                if let Some(Line::PairingEnded { end, .. }) = self.names.line_of(event)
                    && end != "done"
                {
                    bail!("not let into the group: {end}");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Says yes or no to a code, if that is not a person's to say.
    async fn matched(&mut self, handle: &Handle, peer: PeerId, side: Side) {
        match self.accept {
            Accept::All => handle.group(Command::Confirm(peer)).await,
            Accept::None if side == Side::Asked => handle.group(Command::Refuse(peer)).await,
            Accept::Ask | Accept::None => {}
        }
    }

    /// Shows where other phones reach this one.
    fn readdressed(&mut self, addresses: Vec<Multiaddr>) -> Result<()> {
        self.addresses = addresses;
        let whole = self.addresses.iter().map(|address| self.whole(address));
        let addresses = whole.collect();

        self.show(Line::Addresses { addresses })
    }

    /// Returns one of this phone's addresses with its id.
    fn whole(&self, address: &Multiaddr) -> String {
        format!("{address}/p2p/{}", names::peer_text(self.me))
    }

    /// Makes the link of an invite.
    fn invited(&mut self, group: GroupId, secret: Secret, lifetime: Duration) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let expires = now.context("this machine's clock stands before 1970")? + lifetime;
        let invite = Invite {
            group,
            host: self.me,
            secret,
            expires_unix_s: expires.as_secs(),
            addresses: self.addresses.iter().map(Multiaddr::to_string).collect(),
        };

        let address = self.addresses.iter().find_map(address::tcp_v4_of);
        let typed = address.map(|address| TypedCode { address, secret });
        self.show(Line::Invite {
            link: invite.to_link(),
            code: typed.map(|typed| typed.to_text()),
            expires_unix_s: expires.as_secs(),
        })
    }

    /// Hears what somebody says. What is no good is answered to them.
    async fn hear(
        &mut self,
        handle: &Handle,
        asker: Asker,
        said: Said,
        words: &mpsc::Sender<Word>,
    ) -> Result<()> {
        let heard = match said {
            Said::Came(lines) => {
                self.programs.insert(asker, lines);
                Ok(())
            }
            Said::Left => {
                self.gone(handle, asker).await;
                Ok(())
            }
            Said::Nonsense(message) => Err(anyhow!(message)),
            Said::Typed(text) => self.typed(handle, &text, words).await,
            Said::Interrupt => unreachable!("it ends the phone"),
            Said::Order(Order::Ask { id, ask }) => self.ask(handle, (asker, id), ask, words).await,
            Said::Order(Order::Cancel { id }) => {
                if let Some(open) = self.answers.get(&(asker, id)) {
                    handle.cancel(open.client).await;
                }
                Ok(())
            }
            Said::Order(Order::Status) => return self.show_to(asker, self.status()),
            Said::Order(Order::Forecast) => self.forecast(handle, asker).await,
            Said::Order(order) => self.order(handle, order).await,
        };

        match heard {
            Ok(()) => Ok(()),
            Err(error) => {
                let message = lines::message(&error);
                self.show_to(asker, Line::Error { id: None, message })
            }
        }
    }

    async fn ask(
        &mut self,
        handle: &Handle,
        id: (Asker, u64),
        ask: Ask,
        words: &mpsc::Sender<Word>,
    ) -> Result<()> {
        if self.answers.contains_key(&id) {
            // Without the number: that would end the answer that carries it.
            bail!("not asked: {} is the number of an open question", id.1);
        }
        let (client, answers) = handle.ask(ask).await;
        let lines = AnswerLines::new(Some(id.1));

        let open = Open {
            lines,
            client,
            cancelled: false,
        };
        self.answers.insert(id, open);
        tokio::spawn(carry(id, answers, words.clone()));
        Ok(())
    }

    /// Finds out what to expect of this phone's model, for whoever asked.
    async fn forecast(&mut self, handle: &Handle, asker: Asker) -> Result<()> {
        let model = self.model.as_ref().context("this phone has no model")?;
        // As for a group: a phone alone would cut it into one shard, which cannot be shared.
        let n_phones = u32::try_from(self.members.len().max(2)).unwrap_or(u32::MAX);
        let work = model.work(n_phones).await?;

        self.forecast = Some((asker, handle.forecast(work).await));
        Ok(())
    }

    /// Shows how a forecast is going to whoever asked for it.
    fn forecast_news(&mut self, news: Option<ForecastNews>) -> Result<()> {
        let Some((asker, _)) = &self.forecast else {
            return Ok(());
        };
        let (asker, line) = (*asker, news.map(|news| self.names.forecast(news)));

        match line {
            Some(line) => self.show_to(asker, line),
            None => {
                self.forecast = None;
                Ok(())
            }
        }
    }

    /// Carries out what somebody wants of the group.
    async fn order(&mut self, handle: &Handle, order: Order) -> Result<()> {
        let command = match order {
            Order::Meet { address } => {
                let address = address.parse::<Multiaddr>();
                handle.meet(address.context("that is no address")?).await?;
                return Ok(());
            }
            Order::Run { phones } => {
                let model = self.model.as_ref().context("this phone has no model")?;
                handle.run(model.work(phones).await?, None).await;
                return Ok(());
            }
            Order::StopRunning => return Ok(handle.stop_running().await?),
            Order::Exclude { peer, excluded } => {
                return Ok(handle.exclude(peer_id(&peer)?, excluded).await?);
            }
            Order::SetModel { path } => {
                handle
                    .set_models(path.iter().map(|path| model_file(path)).collect())
                    .await;
                let run = self.run.clone();
                self.model = path.map(|path| Model { path, run });
                return Ok(());
            }
            Order::Visible { visible } => {
                handle.set_visible(visible).await;
                return Ok(());
            }
            Order::Look { looking } => {
                handle.set_looking(looking).await;
                return Ok(());
            }
            Order::Suspend => {
                handle.suspend().await;
                return Ok(());
            }
            Order::Resume => {
                handle.resume().await;
                return Ok(());
            }
            Order::JoinCode { code } => {
                handle.present_typed(TypedCode::from_text(&code)?).await;
                return Ok(());
            }
            Order::Probe => {
                handle.probe().await;
                return Ok(());
            }
            Order::Rename { name } => {
                let name = Name::tidy(&name);
                folder::remember_name(&self.data, &name)?;
                self.names.name(self.me, &name);
                Command::Rename(name)
            }
            Order::Tap { peer, invite } => Command::Ask {
                peer: peer_id(&peer)?,
                purpose: if invite {
                    Purpose::Invite
                } else {
                    Purpose::Join
                },
            },
            Order::Block { peer } => Command::Block(peer_id(&peer)?),
            Order::Unblock { peer } => Command::Unblock(peer_id(&peer)?),
            Order::HandOver { peer } => Command::HandOver(peer_id(&peer)?),
            Order::Confirm { peer } => Command::Confirm(peer_id(&peer)?),
            Order::Refuse { peer } => Command::Refuse(peer_id(&peer)?),
            Order::Invite => Command::Invite {
                lifetime: INVITE_LIFETIME,
            },
            Order::Present { link } => present(&link)?,
            Order::Leave => Command::Leave(When::AfterAnswer),
            Order::Remove { peer } => Command::Remove(peer_id(&peer)?),
            Order::Ask { .. }
            | Order::Cancel { .. }
            | Order::Forecast
            | Order::Status
            | Order::Stop => unreachable!("these are no business of the group"),
        };
        handle.group(command).await;

        Ok(())
    }

    /// Does what a person types.
    async fn typed(
        &mut self,
        handle: &Handle,
        text: &str,
        words: &mpsc::Sender<Word>,
    ) -> Result<()> {
        let of = |number| self.phones.of(number);
        let join = |peer, purpose| Command::Ask { peer, purpose };

        let command = match typed::read(text) {
            Typed::Nothing | Typed::Quit => return Ok(()),
            Typed::Help => return self.tell(typed::HELP),
            Typed::Nearby => return self.tell(&self.nearby_list()),
            Typed::Members => return self.tell(&self.member_list()),
            Typed::Blocked => return self.tell(&self.blocked_list()),
            Typed::Plan => return self.tell(&self.plan_text()),
            Typed::Status => return self.show_to(Asker::Screen, self.status()),
            Typed::New => {
                self.conversation.clear();
                return Ok(());
            }
            Typed::Question(text) => return self.question(handle, text, words).await,
            Typed::Run(phones) => return self.order(handle, Order::Run { phones }).await,
            Typed::StopRunning => return self.order(handle, Order::StopRunning).await,
            Typed::Forecast => return self.forecast(handle, Asker::Screen).await,
            Typed::Rename(name) => return self.order(handle, Order::Rename { name }).await,
            Typed::JoinCode(code) => return self.order(handle, Order::JoinCode { code }).await,
            Typed::Probe => return self.order(handle, Order::Probe).await,
            Typed::JoinLink(link) => present(&link)?,
            Typed::Invite => Command::Invite {
                lifetime: INVITE_LIFETIME,
            },
            Typed::Leave => Command::Leave(When::AfterAnswer),
            Typed::Yes(code) => Command::Confirm(self.phones.matching(code.as_deref())?),
            Typed::No(code) => Command::Refuse(self.phones.matching(code.as_deref())?),
            Typed::Tap(number) => join(of(number)?, Purpose::Join),
            Typed::Bring(number) => join(of(number)?, Purpose::Invite),
            Typed::Remove(number) => Command::Remove(of(number)?),
            Typed::Block(number) => Command::Block(of(number)?),
            Typed::Unblock(number) => Command::Unblock(of(number)?),
            Typed::HandOver(number) => Command::HandOver(of(number)?),
        };
        handle.group(command).await;

        Ok(())
    }

    /// Asks what a person typed, after all that was asked before.
    async fn question(
        &mut self,
        handle: &Handle,
        text: String,
        words: &mpsc::Sender<Word>,
    ) -> Result<()> {
        if self.plan.is_none() && self.members.len() < 2 {
            bail!(
                "no model runs here yet, so nobody can answer: form a group (`nearby`, `tap N`), or run this phone's \
                 own model (`run 1`). `help` lists what can be said"
            );
        }
        self.conversation.push(Message {
            role: "user".into(),
            content: text,
        });
        let ask = self.answer.ask(Prompt::Chat(self.conversation.clone()));
        let id = (Asker::Screen, self.n_asked);
        self.n_asked += 1;

        self.ask(handle, id, ask, words).await
    }

    /// Keeps what was answered, for the next question; what was not answered has not been asked.
    fn remember(&mut self, line: &Line) {
        match line {
            Line::Done { text, finish, .. } if *finish != Finish::Cancelled => {
                self.conversation.push(Message {
                    role: "assistant".into(),
                    content: text.clone(),
                });
            }
            Line::Done { .. } | Line::Error { .. } => drop(self.conversation.pop()),
            _ => {}
        }
    }

    fn nearby_list(&self) -> String {
        let near = self.phones.nearby();
        let near = near.filter(|near| !self.phones.is_member(near.peer));
        let near = near.map(|near| {
            let group = near.group.map_or("", |_| ", in a group");
            self.numbered(near.peer, &format!("{}{group}", near.name))
        });
        let list = near.collect::<Vec<_>>();

        if list.is_empty() {
            "nobody is near that could be asked; `probe` knocks at every address of this network, \
             and `join LINK` needs nobody near"
                .into()
        } else {
            format!(
                "{}\n`tap N` asks to be let into its group, `bring N` asks it into this phone's",
                list.join("\n")
            )
        }
    }

    fn member_list(&self) -> String {
        if self.members.is_empty() {
            return "in no group: `nearby` lists phones to ask, `invite` makes a link".into();
        }
        let list = self.members.iter().map(|member| {
            let text = crate::people::list(std::slice::from_ref(member));
            match peer_id(&member.peer) {
                Ok(peer) if peer == self.me => format!("     {text}, this phone"),
                Ok(peer) => self.numbered(peer, &text),
                Err(_) => text,
            }
        });

        list.collect::<Vec<_>>().join("\n")
    }

    fn blocked_list(&self) -> String {
        let blocked = self.phones.blocked();
        let list = blocked.map(|phone| self.numbered(phone, &self.names.of(phone)));
        let list = list.collect::<Vec<_>>();

        if list.is_empty() {
            "nobody is blocked".into()
        } else {
            list.join("\n")
        }
    }

    fn numbered(&self, phone: PeerId, text: &str) -> String {
        let number = self.phones.number(phone);
        let number = number.map_or_else(String::new, |number| number.to_string());

        format!("{number:>4} {text}")
    }

    fn plan_text(&self) -> String {
        let plan = self.plan.as_ref().and_then(Line::for_people);
        let Some(plan) = plan else {
            return "no model is run: `run N` runs this phone's, once N phones are here".into();
        };
        let measured = self.measured.as_ref().and_then(Line::beside_forecast);

        measured.map_or(plan.clone(), |measured| format!("{plan}\n{measured}"))
    }

    /// What a program that goes has asked, nobody waits for.
    async fn gone(&mut self, handle: &Handle, asker: Asker) {
        self.programs.remove(&asker);
        let asked = self.answers.extract_if(.., |id, _| id.0 == asker);

        for (_, open) in asked.collect::<Vec<_>>() {
            handle.cancel(open.client).await;
        }
    }

    fn status(&self) -> Line {
        let address = self.addresses.first().map(|address| self.whole(address));

        Line::Status {
            phone: self.names.of(self.me),
            peer: names::peer_text(self.me),
            address: address.unwrap_or_else(|| self.address.to_string()),
            members: self.members.clone(),
            nearby: self.phones.nearby().map(names::nearby).collect(),
            blocked: self
                .phones
                .blocked()
                .map(|peer| self.names.phone(peer))
                .collect(),
            plan: self.plan.clone().map(Box::new),
            measured: self.measured.clone().map(Box::new),
            standings: self.names.standings(&self.board),
            run: self.board.run.as_ref().map(|run| self.names.run(run)),
        }
    }

    fn show_event(&mut self, event: Event) -> Result<()> {
        if let Event::Notice(Notice::Broken { .. } | Notice::Stopped) = event {
            self.plan = None;
            self.measured = None;
        }
        if let Event::Standing(board) = event {
            self.board = *board;
            return Ok(());
        }
        let Some(line) = self.names.line_of(&event) else {
            return Ok(());
        };
        if let Event::Group(OutEvent::Present { peer, presence }) = event {
            self.set_presence(peer, presence);
        }
        match &line {
            Line::Members { members } => self.members.clone_from(members),
            Line::Left { .. } => self.members.clear(),
            Line::Plan { .. } => {
                self.plan = Some(line.clone());
                self.measured = None;
            }
            Line::Measured { .. } => self.measured = Some(line.clone()),
            _ => {}
        }

        self.show(line)?;
        if let Event::Group(OutEvent::Present { peer, presence }) = event {
            self.note_lost(peer, presence);
        }
        Ok(())
    }

    /// Notes what people were told of a member.
    fn note_lost(&mut self, peer: PeerId, presence: Presence) {
        match presence {
            Presence::Lost => drop(self.lost.insert(peer)),
            Presence::Here => drop(self.lost.remove(&peer)),
            Presence::Suspect => {}
        }
    }

    fn set_presence(&mut self, peer: PeerId, presence: Presence) {
        let text = names::peer_text(peer);

        for member in self.members.iter_mut().filter(|member| member.peer == text) {
            member.presence = names::presence_word(presence).into();
        }
    }

    /// Shows a line to everybody.
    fn show(&mut self, line: Line) -> Result<()> {
        let programs = self.programs.keys().copied().collect::<Vec<_>>();
        for program in programs {
            self.show_to(program, line.clone())?;
        }

        self.show_to(Asker::Screen, line)
    }

    /// Shows a line to one. A program that does not read is sent away.
    fn show_to(&mut self, asker: Asker, line: Line) -> Result<()> {
        match asker {
            Asker::Screen if self.json => lines::print(&line)?,
            Asker::Screen => self.show_person(&line)?,
            Asker::Local(_) => {
                let program = self.programs.get(&asker);
                if program.is_some_and(|lines| lines.try_send(line).is_err()) {
                    self.programs.remove(&asker);
                }
            }
        }
        Ok(())
    }

    /// Shows a line to a person.
    fn show_person(&mut self, line: &Line) -> Result<()> {
        match line {
            Line::Token { text, .. } => {
                self.in_words = true;
                return Ok(terminal::write(text)?);
            }
            Line::Done { .. } if self.in_words => {
                self.in_words = false;
                return Ok(terminal::write("\n\n")?);
            }
            line if self.is_told(line) => return Ok(()),
            _ => {}
        }

        if let Some(text) = line.for_people() {
            self.tell(&format!("{text}{}", self.hint(line)))?;
        }
        match line {
            Line::Invite { link, .. } => self.draw(link),
            _ => Ok(()),
        }
    }

    /// Returns whether people know what a line says, from this one or a better one; takes note that they will.
    fn is_told(&mut self, line: &Line) -> bool {
        match line {
            // It was late, which nobody was told.
            Line::Present { peer, presence, .. } if presence == "here" => {
                !peer_id(peer).is_ok_and(|peer| self.lost.contains(&peer))
            }
            Line::Nearby(near) => self.is_member(&near.peer),
            Line::Unreachable { peer, .. } => {
                self.is_member(peer) || !self.unreached.insert(peer.clone())
            }
            Line::Match { peer, .. } | Line::PairingEnded { peer, .. } => {
                self.unreached.remove(peer);
                false
            }
            Line::Members { members } => {
                let members = crate::people::list(members);
                std::mem::replace(&mut self.told_members, members.clone()) == members
            }
            Line::Left { .. } => {
                self.told_members.clear();
                false
            }
            _ => false,
        }
    }

    /// Returns what a person may do about a line.
    fn hint(&self, line: &Line) -> String {
        let number = |peer: &str| self.phones.number(peer_id(peer).ok()?);

        match line {
            Line::Nearby(near) => number(&near.peer)
                .map(|number| format!(": `tap {number}` asks to be let into its group"))
                .unwrap_or_default(),
            _ => String::new(),
        }
    }

    fn is_member(&self, peer: &str) -> bool {
        peer_id(peer).is_ok_and(|peer| self.phones.is_member(peer))
    }

    /// Tells a person something.
    fn tell(&mut self, text: &str) -> Result<()> {
        if std::mem::take(&mut self.in_words) {
            terminal::write("\n")?;
        }

        match &mut self.screen {
            Some(screen) => screen.show(text),
            None => {
                terminal::complain(text);
                Ok(())
            }
        }
    }

    /// Draws a link for a camera, where there is a terminal to draw on.
    fn draw(&mut self, link: &str) -> Result<()> {
        match (&mut self.screen, qr::draw(link, true)) {
            (Some(screen), Some(code)) => screen.show_raw(&code),
            _ => Ok(()),
        }
    }
}

/// Waits for how a forecast is going, if somebody asked for one.
async fn next_news(
    forecast: &mut Option<(Asker, mpsc::UnboundedReceiver<ForecastNews>)>,
) -> Option<ForecastNews> {
    match forecast {
        Some((_, news)) => news.recv().await,
        None => std::future::pending().await,
    }
}

/// Carries an answer's words to where they are shown, under the number that the asker gave.
async fn carry(id: (Asker, u64), mut answers: Answers, words: mpsc::Sender<Word>) {
    while let Some(answer) = answers.next().await {
        if words.send((id, answer)).await.is_err() {
            return; // the phone is stopping
        }
    }
}

fn peer_id(text: &str) -> Result<PeerId> {
    let peer = text.parse::<libp2p::PeerId>();
    let peer = peer.with_context(|| format!("{text} names no phone"))?;

    identity::peer_id(&peer).with_context(|| format!("{} names no phone of ours", peer))
}

/// Returns the command that uses a link.
fn present(link: &str) -> Result<Command> {
    let invite = Invite::from_link(link)?;
    let addresses = invite.addresses.iter();
    let addresses = addresses.filter_map(|address| address.parse().ok());

    Ok(Command::Present {
        host: invite.host,
        addresses: address::to_wire(&addresses.collect::<Vec<Multiaddr>>()),
        secret: invite.secret,
        group: Some(invite.group),
    })
}
