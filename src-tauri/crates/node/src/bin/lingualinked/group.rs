//! A group of phones as processes of this machine: each is `lingualinked node --json`, told what to do
//! through its standard input.
//!
//! A phone ends when its standard input does, so none outlives this process, however it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use libp2p::multiaddr::Protocol;
use proto::chat::Ask;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::args::GroupArgs;
use crate::lines::{Line, Order};

/// How long the phones may take to end when they are told to. They have nothing to save.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the phones may take to find each other: DNS-SD took 0.15 s on loopback, and asks again after 1 s and 3 s
/// where a packet is lost.
const FOUND_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines of all phones together that wait to be looked at.
const LINE_QUEUE: usize = 256;

/// A running group.
pub struct Group {
    phones: Vec<PhoneProcess>,
    lines: mpsc::Receiver<(usize, Heard)>,
    /// For the phones that are yet to be started.
    sender: Option<mpsc::Sender<(usize, Heard)>>,
    plan: Option<Line>,
    /// Whether phones that should have found each other did not.
    was_told: bool,
    /// Where the phones keep their shards.
    data: PathBuf,
    /// Kept as long as the phones need it.
    _folder: Option<TempDir>,
}

/// One phone of it.
struct PhoneProcess {
    name: String,
    child: Child,
    orders: ChildStdin,
    /// Where it is, once it has said so.
    address: Option<String>,
    /// What it shows for other phones.
    codes: BTreeMap<String, String>,
    /// Who is in its group.
    members: Vec<String>,
    /// Which phones it sees nearby, those of other groups of this machine among them.
    nearby: BTreeSet<String>,
}

/// How the phones learn of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// They find each other, as phones do.
    Discovered,
    /// They are told where the first one is, which is quicker.
    Told,
}

/// What came from a phone.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "all but the last are lines")]
pub enum Heard {
    /// A line.
    Line(Line),
    /// It has ended.
    Ended,
}

impl Group {
    /// Returns a group without phones.
    ///
    /// # Errors
    ///
    /// If several phones were to listen on one port, or there is no room for a temporary folder.
    pub fn new(args: &GroupArgs) -> Result<Self> {
        let port = args.listen.iter().find_map(|part| match part {
            Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
            _ => None,
        });
        if args.phones > 1 && port.is_some_and(|port| port != 0) {
            bail!(
                "several phones cannot listen on one port: say port 0, and each takes a free one"
            );
        }

        let (folder, data) = match &args.data {
            Some(data) => (None, data.clone()),
            None => {
                let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
                let data = folder.path().to_owned();
                (Some(folder), data)
            }
        };
        let (sender, lines) = mpsc::channel(LINE_QUEUE);

        Ok(Self {
            phones: Vec::new(),
            lines,
            sender: Some(sender),
            plan: None,
            was_told: false,
            data,
            _folder: folder,
        })
    }

    /// Starts the phones and waits until they run the model. Calls `show` with what happens meanwhile.
    ///
    /// # Errors
    ///
    /// What a phone says if it cannot do its part, or that it ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, [`Group::stop`] ends the phones that there are.
    pub async fn start(
        &mut self,
        args: &GroupArgs,
        meeting: Meeting,
        mut show: impl FnMut(usize, &Line),
    ) -> Result<()> {
        let sender = self.sender.take().context("a group is started once")?;

        for _ in 0..args.phones {
            self.spawn(args, meeting, &sender)?;
        }
        drop(sender); // with the last phone's own the lines end
        for phone in 0..self.phones.len() {
            while self.phones[phone].address.is_none() {
                self.start_line(&mut show).await?;
            }
        }
        let found_by = Instant::now() + FOUND_TIMEOUT;
        for phone in 1..self.phones.len() {
            let found = meeting == Meeting::Discovered
                && self.find_first(phone, found_by, &mut show).await?;
            self.was_told |= meeting == Meeting::Discovered && !found;
            self.let_in(phone, found, &mut show).await?;
        }

        while self.plan.is_none() {
            self.start_line(&mut show).await?;
        }
        Ok(())
    }

    /// Returns the line that told the plan.
    ///
    /// # Panics
    ///
    /// If the group has not been started.
    pub fn plan(&self) -> &Line {
        self.plan.as_ref().expect("it has been started")
    }

    /// Returns whether phones that were to find each other had to be told where the first one is.
    pub fn was_told(&self) -> bool {
        self.was_told
    }

    /// Returns the system's numbers of the processes.
    pub fn process_ids(&self) -> Vec<u32> {
        self.phones
            .iter()
            .filter_map(|phone| phone.child.id())
            .collect()
    }

    /// Asks a phone. The answer's lines carry `id`.
    ///
    /// # Errors
    ///
    /// If the phone has ended.
    pub async fn ask(&mut self, phone: usize, id: u64, ask: Ask) -> Result<()> {
        self.order(phone, &Order::Ask { id, ask }).await
    }

    /// Has a phone stop an answer.
    ///
    /// # Errors
    ///
    /// If the phone has ended.
    pub async fn cancel(&mut self, phone: usize, id: u64) -> Result<()> {
        self.order(phone, &Order::Cancel { id }).await
    }

    /// Waits for the next line of an answer, from the phone that was asked.
    ///
    /// # Errors
    ///
    /// If a phone of the group has ended, whichever: the ring is broken.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn answer_line(&mut self, phone: usize, id: u64) -> Result<Line> {
        loop {
            match self.lines.recv().await {
                Some((from, Heard::Line(line))) if from == phone && line.id() == Some(id) => {
                    return Ok(line);
                }
                Some((_, Heard::Line(_))) => {}
                Some((from, Heard::Ended)) => return Err(self.left(from)),
                None => bail!("every phone has ended"),
            }
        }
    }

    /// Waits until a phone has ended, while nothing is asked. Returns what there is to say about it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn loss(&mut self) -> anyhow::Error {
        loop {
            match self.lines.recv().await {
                Some((_, Heard::Line(_))) => {}
                Some((from, Heard::Ended)) => return self.left(from),
                None => return anyhow!("every phone has ended"),
            }
        }
    }

    /// Ends the phones, and waits until they have.
    pub async fn stop(mut self) {
        for phone in 0..self.phones.len() {
            let _ = self.order(phone, &Order::Stop).await; // it may have ended already
        }

        let deadline = Instant::now() + STOP_TIMEOUT;
        for phone in &mut self.phones {
            if timeout_at(deadline, phone.child.wait()).await.is_err() {
                let _ = phone.child.kill().await; // an error means that it has ended
            }
        }
    }

    fn left(&self, phone: usize) -> anyhow::Error {
        anyhow!(
            "{} left the group, and its layers with it",
            self.phones[phone].name
        )
    }

    fn spawn(
        &mut self,
        args: &GroupArgs,
        meeting: Meeting,
        lines: &mpsc::Sender<(usize, Heard)>,
    ) -> Result<()> {
        let index = self.phones.len();
        let name = format!("phone {}", index + 1);
        let data = self.data.join(format!("phone-{}", index + 1));

        let mut command = node_command(args, meeting, index, &name, data)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a phone's process")?;
        let orders = child.stdin.take().expect("it was piped");
        let out = child.stdout.take().expect("it was piped");
        tokio::spawn(listen(index, BufReader::new(out), lines.clone()));

        self.phones.push(PhoneProcess {
            name,
            child,
            orders,
            address: None,
            codes: BTreeMap::new(),
            members: Vec::new(),
            nearby: BTreeSet::new(),
        });
        Ok(())
    }

    /// Waits until a phone has found the first one by itself, but not for ever: some machines carry no multicast.
    /// Returns whether it has.
    async fn find_first(
        &mut self,
        phone: usize,
        until: Instant,
        show: &mut impl FnMut(usize, &Line),
    ) -> Result<bool> {
        let first = self.phones[0].peer().map(str::to_owned);
        let first = first.context("the first phone has said where it is")?;

        while !self.phones[phone].nearby.contains(&first) {
            match timeout_at(until, self.start_line(show)).await {
                Ok(heard) => heard?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Plays two people: one taps the first phone, both see whether the codes are the same and say yes.
    async fn let_in(
        &mut self,
        phone: usize,
        found: bool,
        show: &mut impl FnMut(usize, &Line),
    ) -> Result<()> {
        let address = self.phones[0].address.clone();
        let address = address.context("the first phone has said where it is")?;
        let peer = self.phones[0].peer().map(str::to_owned);
        let peer = peer.context("the first phone has said where it is")?;
        let tap = if found {
            Order::Tap {
                peer,
                invite: false,
            }
        } else {
            Order::Meet { address }
        };
        self.order(phone, &tap).await?;

        let mut agreed = false;
        while !(self.knows(0, phone) && self.knows(phone, 0)) {
            if !agreed && let Some(codes) = self.codes(phone) {
                self.agree(phone, codes).await?;
                agreed = true;
            }
            self.start_line(show).await?;
        }
        Ok(())
    }

    /// Returns what the first phone and another show each other, once both do.
    fn codes(&self, phone: usize) -> Option<[String; 2]> {
        let shown = |on: usize, of: usize| {
            let code = self.phones[on].codes.get(self.phones[of].peer()?);
            code.cloned()
        };

        Some([shown(0, phone)?, shown(phone, 0)?])
    }

    async fn agree(&mut self, phone: usize, [on_first, on_other]: [String; 2]) -> Result<()> {
        let name = self.phones[phone].name.clone();
        if on_first != on_other {
            bail!("phone 1 shows {on_first}, {name} shows {on_other}: somebody is between them");
        }

        for (on, other) in [(0, phone), (phone, 0)] {
            let peer = self.phones[other].peer().map(str::to_owned);
            let peer = peer.context("it has said where it is")?;
            self.order(on, &Order::Confirm { peer }).await?;
        }
        Ok(())
    }

    /// Returns whether a phone says that another is in its group.
    fn knows(&self, phone: usize, other: usize) -> bool {
        let other = self.phones[other].peer();

        other.is_some_and(|other| self.phones[phone].members.iter().any(|m| m == other))
    }

    /// Waits for a line while the group is being started, when any error is the end of it.
    async fn start_line(&mut self, show: &mut impl FnMut(usize, &Line)) -> Result<()> {
        let (from, line) = match self.lines.recv().await {
            Some((_, Heard::Line(Line::Error { message, .. }))) => bail!("{message}"),
            Some((from, Heard::Line(line))) => (from, line),
            Some((from, Heard::Ended)) => {
                bail!(
                    "{} ended before the group was ready",
                    self.phones[from].name
                )
            }
            None => bail!("every phone has ended"),
        };
        show(from, &line);

        let phone = &mut self.phones[from];
        match line {
            Line::Listening { address, .. } => phone.address = Some(address),
            Line::Match { peer, code, .. } => {
                phone.codes.insert(peer, code);
            }
            Line::Nearby(near) => drop(phone.nearby.insert(near.peer)),
            Line::Faded { peer, .. } => drop(phone.nearby.remove(&peer)),
            Line::Members { members } => {
                phone.members = members.into_iter().map(|member| member.peer).collect();
            }
            Line::PairingEnded { phone, end, .. } if end != "done" => {
                bail!("{phone} was not let in: {end}")
            }
            plan @ Line::Plan { .. } if from == 0 => self.plan = Some(plan),
            _ => {}
        }
        Ok(())
    }

    async fn order(&mut self, phone: usize, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order).expect("our orders are plain data");
        line.push(b'\n');
        let phone = &mut self.phones[phone];
        let written = async {
            phone.orders.write_all(&line).await?;
            phone.orders.flush().await
        };

        written
            .await
            .with_context(|| format!("{} has ended", phone.name))
    }
}

impl PhoneProcess {
    /// Returns the phone as lines name it, once it has said where it is.
    fn peer(&self) -> Option<&str> {
        let address = self.address.as_deref()?;

        address.rsplit_once("/p2p/").map(|(_, peer)| peer)
    }
}

/// Returns the command that runs one phone. It has a process group of its own, so that Ctrl-C comes to
/// this process alone, which then ends the phones in order.
fn node_command(
    args: &GroupArgs,
    meeting: Meeting,
    index: usize,
    name: &str,
    data: PathBuf,
) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    let (run, phone) = (&args.model.run, &args.phone);

    command.args(["node", "--json", "--accept", "ask", "--discover"]);
    command.arg(match meeting {
        Meeting::Discovered => "dns-sd",
        Meeting::Told => "none",
    });
    command.args(["--name", name, "--listen"]);
    command.arg(args.listen.to_string());
    command.arg("--data").arg(data);
    // One has the model: the others get their shards from it.
    if index == 0 {
        command.args(["--run", &args.phones.to_string()]);
        command.arg("--model").arg(&args.model.model);
    }
    let numbers = [
        ("--threads", Some(phone.threads.to_string())),
        ("--slowdown", Some(phone.slowdown.to_string())),
        ("--memory-limit", phone.memory_limit.map(|n| n.to_string())),
        ("--context", Some(run.context.to_string())),
        ("--conversations", Some(run.conversations.to_string())),
        ("--chunk", Some(run.chunk.to_string())),
        ("--placement", Some(run.placement.word().into())),
        ("--spare", Some(run.spare.to_string())),
        ("--shards", run.shards.map(|n| n.to_string())),
    ];
    for (option, value) in numbers {
        if let Some(value) = value {
            command.args([option, &value]);
        }
    }
    if run.f16_activations {
        command.arg("--f16-activations");
    }
    if run.relay_headers {
        command.arg("--relay-headers");
    }
    #[cfg(unix)]
    command.process_group(0);

    Ok(command)
}

/// Reads a phone's lines until it ends.
async fn listen(
    phone: usize,
    out: BufReader<tokio::process::ChildStdout>,
    lines: mpsc::Sender<(usize, Heard)>,
) {
    let mut out = out.lines();

    while let Ok(Some(text)) = out.next_line().await {
        match serde_json::from_str(&text) {
            Ok(line) => {
                if lines.send((phone, Heard::Line(line))).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(phone, %error, "A phone wrote no line of ours"),
        }
    }
    let _ = lines.send((phone, Heard::Ended)).await; // nobody may be left to hear it
}
