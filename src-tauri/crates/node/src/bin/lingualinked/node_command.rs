//! `lingualinked node`: one phone, until it is stopped.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use libp2p::Multiaddr;
use node::disk;
use node::engine_thread::EngineConfig;
use node::event_loop::Event;
use node::identity;
use node::start::{self, Config, Handle, Role};
use proto::chat::Answer;
use proto::phone::Notice;
use proto::plan::STAGES_MAX;
use proto::relay::ClientId;
use tokio::io::{AsyncBufReadExt, BufReader, Split, Stdin};
use tokio::sync::mpsc;

use crate::Outcome;
use crate::args::{PhoneArgs, RunArgs, one_to};
use crate::interrupts::Interrupts;
use crate::lines::{self, AnswerLines, Line, Names, Order};

/// Words of all answers together that wait to be printed. Printing is quicker than computing: a guess.
const WORD_QUEUE: usize = 256;

/// Options of `node`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of this phone
    #[arg(long, default_value = "phone")]
    pub name: String,
    /// Folder for its key and its shards
    #[arg(long)]
    pub data: PathBuf,
    /// Where to listen
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0")]
    pub listen: Multiaddr,
    /// Lead a group of so many phones, this one among them
    #[arg(
        long,
        value_name = "PHONES",
        value_parser = one_to(STAGES_MAX as u32),
        conflicts_with = "join",
        requires = "model"
    )]
    pub lead: Option<u32>,
    /// Join the group that the phone at this address leads
    #[arg(long, value_name = "ADDRESS", required_unless_present = "lead")]
    pub join: Option<Multiaddr>,
    /// Model as a GGUF file, to lead with or to cut shards from
    #[arg(long)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub phone: PhoneArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Write events as JSON lines, and take commands so; the phone ends when standard input does
    #[arg(long)]
    pub json: bool,
}

/// Runs a phone.
pub async fn run(args: Args, interrupts: Interrupts) -> Result<Outcome> {
    let json = args.json;

    lines::or_error_line(json, phone(args, interrupts).await)
}

async fn phone(args: Args, mut interrupts: Interrupts) -> Result<Outcome> {
    let (json, name) = (args.json, args.name.clone());
    let (handle, events) = tokio::select! {
        biased;
        () = interrupts.next() => return Ok(Outcome::Interrupted),
        started = start::start(config(args)?) => started?,
    };
    let mut face = Face {
        names: Names::of_phone(handle.me, name),
        json,
        has_run: false,
        answers: BTreeMap::new(),
    };
    face.show(Line::Listening {
        address: handle.address.to_string(),
    })?;

    let outcome = face.serve(&handle, events, interrupts).await;
    handle.stop().await;
    outcome
}

fn config(args: Args) -> Result<Config> {
    std::fs::create_dir_all(&args.data)
        .with_context(|| format!("cannot make the data folder {}", args.data.display()))?;

    Ok(Config {
        keypair: identity::load_or_create(&args.data)?,
        role: role(&args)?,
        name: args.name,
        data_folder: args.data,
        model: args.model,
        listen: args.listen,
        engine: EngineConfig {
            n_threads: args.phone.threads,
            memory_limit_bytes: args.phone.memory_limit,
            slowdown: args.phone.slowdown,
        },
    })
}

fn role(args: &Args) -> Result<Role> {
    match (&args.join, args.lead, &args.model) {
        (Some(leader), _, _) => Ok(Role::Member {
            leader: leader.clone(),
        }),
        (None, Some(n_phones), Some(model)) => {
            let cut = disk::open_and_cut(model, args.run.n_shards(n_phones))?;
            Ok(Role::Leader {
                n_phones: n_phones as usize,
                cut: Box::new(cut),
                sizes: args.run.sizes(),
            })
        }
        _ => bail!("say --lead PHONES with --model FILE, or --join ADDRESS"),
    }
}

/// What this phone shows, on standard output.
struct Face {
    names: Names,
    json: bool,
    /// Whether there has been a plan in force.
    has_run: bool,
    /// Answers that are being written, with what stops them.
    answers: BTreeMap<u64, Open>,
}

/// An answer on its way.
struct Open {
    lines: AnswerLines,
    client: ClientId,
}

impl Face {
    /// Shows events and takes orders until the phone is to stop.
    async fn serve(
        &mut self,
        handle: &Handle,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut interrupts: Interrupts,
    ) -> Result<Outcome> {
        let mut orders = BufReader::new(tokio::io::stdin()).split(b'\n');
        let (words_in, mut words) = mpsc::channel(WORD_QUEUE);

        loop {
            tokio::select! {
                biased;
                () = interrupts.next() => return Ok(Outcome::Interrupted),
                Some((id, answer)) = words.recv() => self.word(id, answer)?,
                event = events.recv() => match event {
                    Some(event) => {
                        if self.event(event)?.is_break() {
                            return Ok(Outcome::Failed);
                        }
                    }
                    None => bail!("the phone has stopped by itself: this is a bug"),
                },
                line = next_order(&mut orders, self.json) => match line? {
                    None | Some(Order::Stop) => return Ok(Outcome::Done),
                    Some(Order::Ask { id, .. }) if self.answers.contains_key(&id) => {
                        // Without the number: that would end the answer that carries it.
                        self.show(Line::Error {
                            id: None,
                            message: format!("not asked: {id} is the number of an open question"),
                        })?;
                    }
                    Some(Order::Ask { id, ask }) => {
                        let (client, answers) = handle.ask(ask).await;
                        let lines = AnswerLines::new(Some(id));
                        self.answers.insert(id, Open { lines, client });
                        tokio::spawn(carry(id, answers, words_in.clone()));
                    }
                    Some(Order::Cancel { id }) => {
                        if let Some(open) = self.answers.get(&id) {
                            handle.cancel(open.client).await;
                        }
                    }
                },
            }
        }
    }

    fn word(&mut self, id: u64, answer: Answer) -> Result<()> {
        let is_last = answer.is_last();
        let Some(open) = self.answers.get_mut(&id) else {
            return Ok(());
        };
        let line = open.lines.line(answer, &self.names);
        if is_last {
            self.answers.remove(&id);
        }

        self.show(line)
    }

    /// Shows an event; breaks if nothing will ever run here: the group has failed before it began.
    fn event(&mut self, event: Event) -> Result<ControlFlow<()>> {
        self.names.hear(&event);
        let is_broken = matches!(
            event,
            Event::Notice(Notice::Broken { .. } | Notice::NoLeader)
        );
        self.has_run |= matches!(event, Event::Notice(Notice::InForce { .. }));
        self.show(self.names.line(event))?;

        Ok(if is_broken && !self.has_run {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    fn show(&self, line: Line) -> Result<()> {
        if self.json {
            return Ok(lines::print(&line)?);
        }

        match line {
            Line::Listening { address } => eprintln!("listening on {address}"),
            Line::Joined { phone } => eprintln!("{phone} has joined"),
            Line::Plan { stages, .. } => {
                let stages = stages.iter().map(|s| format!("{} {:?}", s.phone, s.layers));
                eprintln!(
                    "the model runs on {}",
                    stages.collect::<Vec<_>>().join(", ")
                );
            }
            Line::Error { message, .. } => eprintln!("lingualinked: {message}"),
            _ => {}
        }
        Ok(())
    }
}

/// Carries an answer's words to where they are printed, under the number that the asker gave.
async fn carry(
    id: u64,
    mut answers: mpsc::UnboundedReceiver<Answer>,
    words: mpsc::Sender<(u64, Answer)>,
) {
    while let Some(answer) = answers.recv().await {
        if words.send((id, answer)).await.is_err() {
            return; // the phone is stopping
        }
    }
}

/// Waits for the next order; never, where there are none. `None` at the end of standard input.
async fn next_order(orders: &mut Split<BufReader<Stdin>>, json: bool) -> Result<Option<Order>> {
    if !json {
        return std::future::pending().await;
    }

    loop {
        let Some(line) = orders.next_segment().await? else {
            return Ok(None);
        };
        match serde_json::from_slice(&line) {
            Ok(order) => return Ok(Some(order)),
            Err(error) => lines::print(&Line::Error {
                id: None,
                message: format!("not a command: {error}"),
            })?,
        }
    }
}
