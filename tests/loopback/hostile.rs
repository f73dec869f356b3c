//! A group among hostile peers works on, stays as it is and as small as it was, and tells them nothing.
//!
//! The peers know everything that can be known without a member's key: addresses, the roster, the term. They try
//! every stream, send what is too long, cut short or noise, lie in well-formed messages, say the same again and
//! again, come by the thousand under fresh keys, and one of them was a member.

#![expect(clippy::print_stdout, reason = "figures are for people")]

#[path = "../sim/group/liar.rs"]
mod liar;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures::future::join_all;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use libtest_mimic::Trial;
use node::discovery::address::tcp_port_of;
use node::group_file::GroupFile;
use node::identity;
use proto::PeerId;
use proto::group::message::{Body, Door, Message, decode, encode};
use proto::group::{Roster, SavedPlace};
use proto::wire::JOIN_FRAME_BYTES_MAX;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use self::liar::{Knowledge, lie};
use crate::group::{Group, Phone, Setup, data_folder, go_on_from, name};
use crate::models::{tiny, tiny_prompt, trial};
use crate::scratch::Scratch;
use crate::stranger::{GROWTH_MAX_KB, KINDS, PATIENCE, Peer, flood, protocol, rss_kb};

const N_PHONES: usize = 3;

/// Attacks, the same with other keys: what leaks grows with every one.
const ROUNDS: u64 = 2;

/// Connections under fresh keys to one phone in one attack: 1,002 to three phones in two.
const CROWD: usize = 167;

/// Connections that are made to one phone at once: together with the other phones', more than the 32 that a phone
/// lets be half made.
const AT_ONCE: usize = 42;

/// Liars at one phone in one attack, each with a key of its own.
const LIARS: u64 = 8;

/// Lies of each: a phone reads eight at once from a stranger, the others wait.
const LIES: usize = 12;

/// How often a message, or a recorded connection, is sent again.
const REPLAYS: usize = 100;

/// How long to listen for an answer. It would take milliseconds.
const LISTEN: Duration = Duration::from_millis(700);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "hostile::strangers_get_nothing_and_cost_little",
            strangers_get_nothing_and_cost_little,
        ),
        trial(
            "hostile::who_was_removed_gets_nothing",
            who_was_removed_gets_nothing,
        ),
    ]
}

fn strangers_get_nothing_and_cost_little() {
    let scratch = Scratch::new();
    let mut witness = Witness::of(start(&scratch));
    let targets = targets(&mut witness.group, &scratch);
    witness.look();
    let mut grown = vec![rss_of_all(&scratch)];

    let mut figures = Figures::default();
    for round in 0..ROUNDS {
        figures.add(witness.look_on(attack(targets.clone(), round)));
        grown.push(rss_of_all(&scratch));
    }

    println!("{figures:?}; {} answers meanwhile", witness.n_answers);
    println!("kB of the phones, before and after each attack: {grown:?}");
    assert!(figures.let_in > 0, "there was somebody to bear with");
    for (before, after) in grown[0].iter().zip(&grown[ROUNDS as usize]) {
        assert!(*after < before + GROWTH_MAX_KB, "{grown:?}");
    }
    witness.group.stop();
}

/// A phone was a member, was removed, and comes back with its key, with what it knows, and with all that it ever
/// said to the leader, as it went over the wire.
fn who_was_removed_gets_nothing() {
    let scratch = Scratch::new();
    let mut group = start(&scratch);
    let recorder = Recorder::before(&group.phone(0).address);
    let mut fourth = Phone::join_without_model(&scratch, N_PHONES, &recorder.address);
    wait_for_members(&mut group, N_PHONES + 1);
    let peer = status(&mut fourth)["peer"].clone();
    let order = json!({ "command": "remove", "peer": peer });
    group.phone(0).program.tell(&order);
    fourth.program.until_event("left");
    wait_for_members(&mut group, N_PHONES);
    assert_eq!(fourth.end().status, 0);
    let folder = data_folder(&scratch, N_PHONES);
    let key = identity::load_or_create(&folder).expect("it kept its key");

    let mut witness = Witness::of(group);
    let targets = targets(&mut witness.group, &scratch);
    let recorded = recorder.longest();
    let n_bytes = recorded.len();
    let figures = witness.look_on(async move {
        for _ in 0..REPLAYS {
            replay_connection(&targets[0].address, &recorded);
        }
        let come_back = targets
            .iter()
            .map(|target| come_back(target, key.clone(), 1));
        Figures::sum(join_all(come_back).await)
    });

    println!("{n_bytes} recorded bytes, {REPLAYS} times; {figures:?}");
    assert!(n_bytes > 1000, "it was a member's connection");
    assert!(figures.heard > 0, "it is told that it is no member");
    witness.group.stop();
}

/// A group, and what is always the same about it.
struct Witness {
    group: Group,
    tokens: Vec<u32>,
    members: Value,
    n_answers: usize,
}

impl Witness {
    fn of(mut group: Group) -> Self {
        let answer = group.ask(0, &question());
        answer.assert_done();
        let members = members(group.phone(0));

        Self {
            group,
            tokens: answer.tokens,
            members,
            n_answers: 0,
        }
    }

    /// Asserts that every phone answers as it did, and that the same phones belong to the group.
    fn look(&mut self) {
        for phone in 0..N_PHONES {
            let answer = self.group.ask(phone, &question());
            answer.assert_done();
            assert_eq!(answer.tokens, self.tokens, "of phone {phone}");
            assert_eq!(members(self.group.phone(phone)), self.members);
            self.n_answers += 1;
        }
    }

    /// Looks while something goes on, and after.
    fn look_on<T: Send + 'static>(
        &mut self,
        attack: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let attack = thread::spawn(move || runtime.block_on(attack));

        while !attack.is_finished() {
            self.look();
        }
        self.look();
        attack.join().expect("every attack went as it should")
    }
}

/// A phone that is attacked.
#[derive(Clone)]
struct Target {
    address: Multiaddr,
    /// Its group, as the leader has it.
    place: SavedPlace,
}

/// What was tried.
#[derive(Debug, Default)]
struct Figures {
    /// Connections tried under fresh keys.
    connections: usize,
    /// Of these, those that were let in.
    let_in: usize,
    /// Messages that fill a stream's window.
    floods: u64,
    /// Lies that were written.
    lies: usize,
    /// True messages of members that were written under another key.
    replays: usize,
    /// Messages that came back: words at the door, all of them.
    heard: usize,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.let_in += other.let_in;
        self.floods += other.floods;
        self.lies += other.lies;
        self.replays += other.replays;
        self.heard += other.heard;
    }

    fn sum(all: Vec<Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, figures| {
            sum.add(figures);
            sum
        })
    }
}

/// Everything, at every phone at once.
async fn attack(targets: Vec<Target>, round: u64) -> Figures {
    let attacks = targets.iter().map(async |target| {
        let mut figures = Figures::default();
        send_what_is_no_frame(&target.address).await;
        for liar in 0..LIARS {
            let seed = round * LIARS + liar;
            figures.add(come_back(target, Keypair::generate_ed25519(), seed).await);
        }
        figures.add(come_by_the_hundred(&target.address).await);
        figures
    });

    Figures::sum(join_all(attacks).await)
}

/// A frame that is too long, half a frame, and noise.
async fn send_what_is_no_frame(address: &Multiaddr) {
    let oversized = u32::MAX.to_le_bytes().to_vec();
    let one_too_many = (JOIN_FRAME_BYTES_MAX as u32 + 1).to_le_bytes().to_vec();
    let half = [&100u32.to_le_bytes()[..], b"and no more"].concat();
    let noise = vec![0xa5; 4096];

    for bytes in [oversized, one_too_many, half, noise] {
        let mut peer = Peer::connect(address).await;
        let mut stream = peer.open(protocol("join")).await.expect("open to all");
        stream.write_all(&bytes).await.expect("it is connected");
        stream.flush().await.expect("it is connected");

        let ended = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
        peer.closed().await;
    }
}

/// Tries every stream, lies, and says again what members have said; hears no word of the group's.
async fn come_back(target: &Target, key: Keypair, seed: u64) -> Figures {
    let mut peer = Peer::connect_as(&key, &target.address).await;
    let mut ear = Ear::of(&mut peer);
    peer.try_every_stream().await;
    let me = identity::peer_id(&key.public().to_peer_id()).expect("an Ed25519 key");

    let lies = lies(me, &target.place, seed);
    let mut stream = peer.open(protocol("join")).await.expect("open to all");
    for message in &lies {
        let _ = write(&mut stream, message).await; // it may be too much for the host
    }
    drop(stream);
    let again = vec![true_message(&target.place.roster); REPLAYS];
    let replaying = async {
        let mut stream = peer.open(protocol("join")).await.expect("open to all");
        for message in &again {
            if write(&mut stream, message).await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(LISTEN, replaying).await; // held back
    sleep(LISTEN).await;

    Figures {
        lies: lies.len(),
        replays: again.len(),
        heard: ear.only_words_at_the_door(),
        ..Figures::default()
    }
}

async fn come_by_the_hundred(address: &Multiaddr) -> Figures {
    let mut let_in = Vec::new();
    let mut connections = 0;
    while connections < CROWD {
        let n = AT_ONCE.min(CROWD - connections);
        let round = (0..n).map(|_| Peer::try_connect(address));
        let_in.extend(join_all(round).await.into_iter().flatten());
        connections += n;
    }
    let floods = join_all(let_in.iter_mut().map(flood)).await;

    Figures {
        connections,
        let_in: let_in.len(),
        floods: floods.into_iter().sum(),
        ..Figures::default()
    }
}

fn lies(me: PeerId, place: &SavedPlace, seed: u64) -> Vec<Vec<u8>> {
    let members = place.roster.members.iter().map(|member| member.peer);
    let peers = members.chain([me]).collect::<Vec<_>>();
    let known = Knowledge {
        me,
        peers: &peers,
        roster: Some(&place.roster),
        term: Some(place.accepted),
    };
    let mut rng = ChaCha12Rng::seed_from_u64(seed);

    (0..LIES).map(|_| lie(&known, &mut rng)).collect()
}

/// What the leader says to members, to the byte.
fn true_message(roster: &Roster) -> Vec<u8> {
    encode(&Message::Group {
        group: roster.group,
        body: Body::Roster(roster.clone()),
    })
}

async fn write(stream: &mut libp2p::Stream, message: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(message.len()).expect("lies are short");
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(message).await?;

    stream.flush().await
}

/// What a phone says to a peer, on streams that the phone opens.
struct Ear(mpsc::UnboundedReceiver<(&'static str, Vec<u8>)>);

impl Ear {
    /// Takes streams of every kind.
    fn of(peer: &mut Peer) -> Self {
        let (heard, ear) = mpsc::unbounded_channel();
        for kind in KINDS {
            let streams = peer.control.accept(protocol(kind));
            let mut streams = streams.expect("nobody else takes them");
            let heard = heard.clone();
            tokio::spawn(async move {
                while let Some((_, mut stream)) = streams.next().await {
                    while let Some(message) = read(&mut stream).await {
                        let _ = heard.send((kind, message)); // nobody may listen any more
                    }
                }
            });
        }

        Self(ear)
    }

    /// Asserts that no message was one of members' to members, or let the peer in; returns how many there were.
    fn only_words_at_the_door(&mut self) -> usize {
        let heard = std::iter::from_fn(|| self.0.try_recv().ok());

        heard
            .inspect(|(kind, bytes)| {
                let message = decode(bytes).expect("our own phone");
                let harmless = match &message {
                    Message::Door(door) => !matches!(door, Door::Welcome(_) | Door::Accept { .. }),
                    Message::Group { .. } => false,
                };
                assert!(harmless && *kind == "join", "{kind}: {message:?}");
            })
            .count()
    }
}

async fn read(stream: &mut libp2p::Stream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut bytes).await.ok()?;

    Some(bytes)
}

/// A wire tap: passes connections on to a phone, and keeps what is sent to it.
struct Recorder {
    address: String,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn before(phone: &str) -> Self {
        let port = port_of(&phone.parse().expect("an address"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let own = listener.local_addr().expect("it listens").port();
        let connections = Arc::<Mutex<Vec<Vec<u8>>>>::default();

        let kept = Arc::clone(&connections);
        thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                let there = TcpStream::connect(("127.0.0.1", port)).expect("the phone listens");
                let mut kept_connections = kept.lock().expect("nobody panics with it");
                let index = kept_connections.len();
                kept_connections.push(Vec::new());
                drop(kept_connections);
                let (back_from, back_to) = (clone(&there), clone(&here));
                let kept = Arc::clone(&kept);
                thread::spawn(move || pass_on(back_from, back_to, |_| {}));
                thread::spawn(move || {
                    pass_on(here, there, |bytes| {
                        kept.lock().expect("nobody panics with it")[index].extend(bytes);
                    });
                });
            }
        });

        Self {
            address: phone.replace(&format!("/{port}/"), &format!("/{own}/")),
            connections,
        }
    }

    fn longest(&self) -> Vec<u8> {
        let connections = self.connections.lock().expect("nobody panics with it");
        let longest = connections.iter().max_by_key(|bytes| bytes.len());

        longest.cloned().expect("there was a connection")
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket can be cloned")
}

/// Copies until either side is gone, and tells the other.
fn pass_on(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        keep(&bytes[..n]);
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both); // it may be gone
}

/// Sends all bytes of a connection on a new one, and waits until the phone ends it.
fn replay_connection(address: &Multiaddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port_of(address))).expect("it listens");
    let _ = stream.write_all(bytes); // the phone may end it before
    let patience = stream.set_read_timeout(Some(PATIENCE));
    patience.expect("a second is no zero");

    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    // The handshake's half: what a phone says to anybody.
    assert!(said.len() < 1024, "{} B came back", said.len());
}

fn port_of(address: &Multiaddr) -> u16 {
    tcp_port_of(address).expect("it listens on TCP")
}

fn start(scratch: &Scratch) -> Group {
    let model = tiny(scratch, "tiny-llama");

    Group::start(scratch, &Setup::new(&model, N_PHONES, &[]))
}

fn targets(group: &mut Group, scratch: &Scratch) -> Vec<Target> {
    let saved = GroupFile::new(&data_folder(scratch, 0)).load();
    let place = saved.expect("readable").membership.expect("in a group");

    let target = |phone| Target {
        address: group.phone(phone).address.parse().expect("an address"),
        place: place.clone(),
    };
    (0..N_PHONES).map(target).collect()
}

fn question() -> Value {
    go_on_from(&tiny_prompt(20), 24)
}

fn status(phone: &mut Phone) -> Value {
    phone.program.tell(&json!({ "command": "status" }));

    phone.program.until_event("status")
}

/// Returns who belongs, who leads, and who is there.
fn members(phone: &mut Phone) -> Value {
    status(phone)["members"].clone()
}

fn wait_for_members(group: &mut Group, n: usize) {
    for phone in 0..N_PHONES {
        while members(group.phone(phone)).as_array().map(Vec::len) != Some(n) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn rss_of_all(scratch: &Scratch) -> Vec<u64> {
    let phones = 0..N_PHONES;

    phones.map(|i| rss_kb(scratch.phone(&name(i)))).collect()
}
