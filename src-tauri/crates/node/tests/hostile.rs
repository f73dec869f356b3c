//! A phone among hostile peers: they open what they may not, send too much, too little and too often, and come by the
//! thousand. Real connections on loopback, where no limit per address helps.

#![expect(
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "each test waits for one thing, and prints what it measures"
)]

#[path = "../../../../tests/loopback/stranger.rs"]
mod stranger;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use node::net::{Net, NetEvent, split_peer};
use proto::Epoch;
use proto::wire::Control;
use stranger::{GROWTH_MAX_KB, JOIN, PATIENCE, Peer, flood, rss_kb};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Who has not said by then who it is, is disconnected: five seconds, and something for a busy machine.
const MUTE_MAX: Duration = Duration::from_secs(8);

/// How long whoever is one too many may take to be told so on a busy machine.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_stranger_is_offered_the_join_stream_only() {
    let host = Host::start();
    let mut peer = Peer::connect(&host.address).await;

    peer.try_every_stream().await;
}

#[tokio::test]
async fn a_frame_that_is_too_long_or_half_ends_the_connection() {
    let host = Host::start();
    let oversized = u32::MAX.to_le_bytes().to_vec();
    let half = [&100u32.to_le_bytes()[..], b"and no more"].concat();

    for bytes in [oversized, half] {
        let mut peer = Peer::connect(&host.address).await;
        let mut stream = peer
            .open(StreamProtocol::new(JOIN))
            .await
            .expect("open to all");
        stream.write_all(&bytes).await.expect("it is connected");
        stream.flush().await.expect("it is connected");

        let ended = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
        peer.closed().await;
    }
}

#[tokio::test]
async fn who_opens_one_stream_after_the_other_is_disconnected() {
    let host = Host::start();
    let mut peer = Peer::connect(&host.address).await;

    let mut opened = 0;
    while opened < 1_000 && peer.open(StreamProtocol::new(JOIN)).await.is_ok() {
        opened += 1;
    }

    println!("streams before the end: {opened}");
    assert!(opened < 100, "{opened}");
    peer.closed().await;
}

/// 1,000 connections with as many keys, 300 that never say who they are, and a flood of messages on those that are
/// let in: the phone goes on, stays as small as it was, and takes a newcomer when they have gone.
#[tokio::test]
async fn a_thousand_strangers_cost_little_and_pass() {
    let host = Host::start();
    drop(Peer::connect(&host.address).await);
    let before_kb = host.rss_kb();

    let mute = mute_connections(&host.address, 300).await;
    sleep(MUTE_MAX).await;
    let mut let_in = Vec::new();
    for _ in 0..20 {
        let round = (0..50).map(|_| Peer::try_connect(&host.address));
        let_in.extend(futures::future::join_all(round).await.into_iter().flatten());
    }
    // On a busy machine some are told late that they were one too many.
    let settled = let_in
        .into_iter()
        .map(|peer| peer.stays_for(SETTLES_WITHIN));
    let settled = futures::future::join_all(settled).await;
    let mut let_in = settled.into_iter().flatten().collect::<Vec<_>>();
    let n_let_in = let_in.len();
    let floods = let_in.iter_mut().map(flood);
    let sent: u64 = futures::future::join_all(floods).await.into_iter().sum();
    let after_kb = host.rss_kb();

    println!(
        "let in {n_let_in} of 1,000, which sent {sent} messages; {before_kb} kB before, {after_kb} kB after"
    );
    // Those who are let in stay; nobody else is.
    assert!((1..=24).contains(&n_let_in), "{n_let_in}");
    assert!(after_kb < before_kb + GROWTH_MAX_KB);

    drop((mute, let_in));
    let newcomer = async {
        while Peer::try_connect(&host.address).await.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, newcomer)
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn members_work_on_while_strangers_knock() {
    let (mut leader, address) = listening().await;
    let (mut member, _) = listening().await;
    let (leader_id, dialled) = split_peer(address.clone()).expect("a whole address");
    let member_id = node::identity::peer_id(&member.1).expect("an Ed25519 key");
    leader.0.set_members(BTreeSet::from([member_id]));
    member.0.set_members(BTreeSet::from([leader_id]));
    let (mut leader, mut member) = (leader.0, member.0);

    let knocking = tokio::spawn(async move {
        let mut let_in = Vec::new();
        for _ in 0..10 {
            let round = (0..20).map(|_| Peer::try_connect(&address));
            let_in.extend(futures::future::join_all(round).await.into_iter().flatten());
        }
        let_in.len()
    });
    member.connect(leader_id, vec![dialled]);
    let leading = tokio::spawn(async move {
        loop {
            if let NetEvent::Control { from, message } = leader.next().await {
                leader.send_control(from, &message); // back to where it came from
            }
        }
    });

    let mut worst = Duration::ZERO;
    for i in 0..200 {
        let started = Instant::now();
        member.send_control(leader_id, &Control::Ready { epoch: Epoch(i) });
        let back = timeout(PATIENCE, answer(&mut member))
            .await
            .expect("the leader answers");
        assert_eq!(back, Epoch(i));
        worst = worst.max(started.elapsed());
    }
    let n_let_in = knocking.await.expect("it does not panic");
    leading.abort();

    println!("{n_let_in} of 200 strangers were let in; the longest round trip took {worst:?}");
    assert!(n_let_in > 0, "there was somebody to bear with");
}

async fn answer(net: &mut Net) -> Epoch {
    loop {
        match net.next().await {
            NetEvent::Control {
                message: Control::Ready { epoch },
                ..
            } => return epoch,
            NetEvent::Disconnected { reason, .. } | NetEvent::Unreachable { reason, .. } => {
                panic!("the member has lost the leader: {reason}")
            }
            _ => {}
        }
    }
}

async fn listening() -> ((Net, PeerId), Multiaddr) {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let mut net = Net::new(keypair).expect("the network starts");
    net.listen(any()).expect("a port is free");
    let address = loop {
        if let NetEvent::Listening(address) = net.next().await {
            break address;
        }
    };

    ((net, peer), address)
}

async fn mute_connections(address: &Multiaddr, n: usize) -> Vec<TcpStream> {
    let port = node::discovery::address::tcp_port_of(address).expect("it listens on TCP");
    let connect = || TcpStream::connect(("127.0.0.1", port));
    let connected = futures::future::join_all((0..n).map(|_| connect())).await;

    connected.into_iter().flatten().collect()
}

/// The program, in a process of its own, so that its memory is its own.
struct Host {
    child: Child,
    address: Multiaddr,
}

impl Host {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lingualinked"))
            .args([
                "nearby",
                "--json",
                "--seconds",
                "300",
                "--no-mdns",
                "--no-dns-sd",
            ])
            .args(["--listen", &any().to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let line = lines
            .find(|line| line.contains("addresses"))
            .expect("it says where it is");
        std::thread::spawn(move || lines.count()); // so that it can go on writing
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");

        let address = line["addresses"][0].as_str().expect("an address");
        Self {
            address: address.parse().expect("an address"),
            child,
        }
    }

    fn rss_kb(&self) -> u64 {
        rss_kb(self.child.id())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn any() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().expect("an address")
}
