//! What a running phone shows, and what it is told: on standard input and output, and on its socket.
//!
//! What concerns everybody is shown to everybody; the words of an answer to whoever asked.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use libp2p::Multiaddr;
use node::discovery::address;
use node::event_loop::Event;
use node::identity;
use node::start::Handle;
use proto::PeerId;
use proto::chat::{Answer, Ask};
use proto::group::{Command, GroupId, Invite, OutEvent, Purpose, Secret, Side, When};
use proto::reconfig::Cause;
use proto::relay::ClientId;
use proto::ring::Notice;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::Outcome;
use crate::args::RunArgs;
use crate::askers::{Asker, Askers, Said};
use crate::interrupts::Interrupts;
use crate::lines::{self, AnswerLines, Line, MemberLine, Names, Order};
use crate::node_command::{Accept, Args};

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

/// What this phone shows.
pub struct Face {
    names: Names,
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
    /// Phone whose code a person was shown last.
    matching: Option<PeerId>,
    /// Whether there has been a plan in force.
    has_run: bool,
    members: Vec<MemberLine>,
    plan: Option<Line>,
    /// Answers that are being written, with what stops them.
    answers: BTreeMap<(Asker, u64), Open>,
    /// Programs that read along.
    programs: BTreeMap<Asker, mpsc::Sender<Line>>,
}

/// An answer on its way.
struct Open {
    lines: AnswerLines,
    client: ClientId,
}

/// A word of an answer, and whose.
type Word = ((Asker, u64), Answer);

impl Face {
    /// Makes the face of a phone that was started with `args`.
    pub fn new(args: &Args, model: Option<Model>, handle: &Handle, askers: &Askers) -> Self {
        Self {
            names: Names::of_phone(handle.me, args.name.clone()),
            me: handle.me,
            address: handle.address.clone(),
            addresses: Vec::new(),
            local: askers.local_address(),
            json: args.json,
            accept: args.accept,
            model,
            joining: None,
            matching: None,
            has_run: false,
            members: Vec::new(),
            plan: None,
            answers: BTreeMap::new(),
            programs: BTreeMap::new(),
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

        self.show(line)
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
                () = interrupts.next() => return Ok(Outcome::Interrupted),
                Some((id, answer)) = words.recv() => self.word(id, answer)?,
                event = events.recv() => {
                    let event = event.context("the phone has stopped by itself: this is a bug")?;
                    if self.event(handle, event).await?.is_break() {
                        return Ok(Outcome::Failed);
                    }
                }
                (asker, said) = askers.next() => match said {
                    Said::Order(Order::Stop) => return Ok(Outcome::Done),
                    Said::Left if asker == Asker::Screen && self.json => return Ok(Outcome::Done),
                    said => self.hear(handle, asker, said, &words_in).await?,
                },
            }
        }
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

        self.show_to(id.0, line)
    }

    /// Shows an event and does what it calls for; breaks if nothing will ever run here: a phone cannot do its part
    /// of the first plan.
    async fn event(&mut self, handle: &Handle, event: Event) -> Result<ControlFlow<()>> {
        self.names.hear(&event);
        self.check_join(&event)?;
        let hopeless = matches!(
            event,
            Event::Notice(Notice::Broken {
                cause: Cause::CannotLoad,
                ..
            })
        ) && !self.has_run;
        self.has_run |= matches!(event, Event::Notice(Notice::InForce { .. }));

        match event {
            Event::CannotSave(error) => return Err(error.into()),
            Event::Addresses(addresses) => self.addresses = addresses,
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
            Event::Unreachable { phone, reason } if *phone == joining => {
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
            Accept::Ask | Accept::None => self.matching = Some(peer),
        }
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

        self.show(Line::Invite {
            link: invite.to_link(),
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
            Said::Typed(text) => self.typed(handle, &text).await,
            Said::Order(Order::Ask { id, ask }) => self.ask(handle, (asker, id), ask, words).await,
            Said::Order(Order::Cancel { id }) => {
                if let Some(open) = self.answers.get(&(asker, id)) {
                    handle.cancel(open.client).await;
                }
                Ok(())
            }
            Said::Order(Order::Status) => return self.show_to(asker, self.status()),
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

        self.answers.insert(id, Open { lines, client });
        tokio::spawn(carry(id, answers, words.clone()));
        Ok(())
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
                handle.run(model.work(phones).await?).await;
                return Ok(());
            }
            Order::Tap { peer } => Command::Ask {
                peer: peer_id(&peer)?,
                purpose: Purpose::Join,
            },
            Order::Confirm { peer } => Command::Confirm(peer_id(&peer)?),
            Order::Refuse { peer } => Command::Refuse(peer_id(&peer)?),
            Order::Invite => Command::Invite {
                lifetime: INVITE_LIFETIME,
            },
            Order::Present { link } => present(&link)?,
            Order::Leave => Command::Leave(When::AfterAnswer),
            Order::Remove { peer } => Command::Remove(peer_id(&peer)?),
            Order::Ask { .. } | Order::Cancel { .. } | Order::Status | Order::Stop => {
                unreachable!("these are no business of the group")
            }
        };
        handle.group(command).await;

        Ok(())
    }

    /// A person says yes or no to the code that was shown last.
    async fn typed(&mut self, handle: &Handle, text: &str) -> Result<()> {
        let command = match text {
            "" => return Ok(()),
            "yes" => Command::Confirm,
            "no" => Command::Refuse,
            _ => bail!("say yes or no when a code is shown"),
        };
        let peer = self.matching.take().context("no code is shown")?;
        handle.group(command(peer)).await;

        Ok(())
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
        Line::Status {
            phone: self.names.of(self.me),
            address: self.address.to_string(),
            members: self.members.clone(),
            plan: self.plan.clone().map(Box::new),
        }
    }

    fn show_event(&mut self, event: Event) -> Result<()> {
        if let Event::Notice(Notice::Broken { .. }) = event {
            self.plan = None;
        }
        let Some(line) = self.names.line_of(&event) else {
            return Ok(());
        };
        match &line {
            Line::Members { members } => self.members.clone_from(members),
            Line::Left { .. } => self.members.clear(),
            Line::Plan { .. } => self.plan = Some(line.clone()),
            _ => {}
        }

        self.show(line)
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
            Asker::Screen => {
                if let Some(text) = line.for_people() {
                    eprintln!("{text}");
                }
            }
            Asker::Local(_) => {
                let program = self.programs.get(&asker);
                if program.is_some_and(|lines| lines.try_send(line).is_err()) {
                    self.programs.remove(&asker);
                }
            }
        }
        Ok(())
    }
}

/// Carries an answer's words to where they are shown, under the number that the asker gave.
async fn carry(
    id: (Asker, u64),
    mut answers: mpsc::UnboundedReceiver<Answer>,
    words: mpsc::Sender<Word>,
) {
    while let Some(answer) = answers.recv().await {
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
