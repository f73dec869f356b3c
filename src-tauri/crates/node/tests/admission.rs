//! Who may send what to whom, with real connections on loopback.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each test waits for one thing"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use node::identity;
use node::net::frame::encode_activation;
use node::net::{Net, NetEvent, split_peer};
use proto::plan::ActivationType;
use proto::wire::Control;
use proto::{Epoch, PeerId, StepId};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long something that will happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait for something that must not happen. It would take milliseconds.
const CALM: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_stranger_can_send_join_messages_and_nothing_else() {
    let (mut host, mut stranger) = (Phone::start().await, Phone::start().await);
    stranger.connect(&host);
    stranger.connected(host.id).await;

    stranger.run(move |net| {
        net.send_join(host.id, b"let me in");
        net.send_control(host.id, &ready(1));
        net.send_activation(host.id, activation());
    });

    assert_eq!(
        host.join_message().await,
        (stranger.id, b"let me in".to_vec())
    );
    host.hears_nothing().await;

    // What was refused waits a little, for a host whose message of welcome is late.
    host.set_members([stranger.id]);
    host.work_from(stranger.id).await;
    host.work_from(stranger.id).await;
}

#[tokio::test]
async fn who_is_removed_is_not_heard_any_more() {
    let (mut host, member) = (Phone::start().await, Phone::start().await);
    host.set_members([member.id]);
    member.connect(&host);
    member.run(move |net| net.send_control(host.id, &ready(1)));
    host.work_from(member.id).await;

    host.set_members([]);
    member.run(move |net| net.send_control(host.id, &ready(2)));
    host.hears_nothing().await;

    member.run(move |net| net.send_join(host.id, b"why?"));
    assert_eq!(host.join_message().await.1, b"why?");
}

#[tokio::test]
async fn a_malformed_frame_ends_the_connection() {
    let (mut host, member) = (Phone::start().await, Phone::start().await);
    host.set_members([member.id]);
    member.connect(&host);
    host.connected(member.id).await;

    member.run(move |net| net.send_activation(host.id, vec![0xff; 64]));

    assert!(host.disconnected(member.id).await.contains("malformed"));
}

#[tokio::test]
async fn who_does_not_read_is_disconnected() {
    let (mut host, mut member) = (Phone::start().await, Phone::start().await);
    host.set_members([member.id]);
    member.set_members([host.id]);
    member.connect(&host);
    host.connected(member.id).await;
    host.run(move |net| net.send_control(member.id, &ready(1)));
    member.work_from(host.id).await;

    member.hold();
    let frame = encode_activation(Epoch(0), StepId(0), &[0.0; 65_536], ActivationType::F32);
    for _ in 0..400 {
        let frame = frame.clone();
        host.run(move |net| {
            if net.is_connected(member.id) {
                net.send_activation(member.id, frame);
            }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    assert!(host.disconnected(member.id).await.contains("does not take"));
}

#[tokio::test]
async fn two_phones_that_dial_each_other_at_once_are_connected_once() {
    for _ in 0..5 {
        let (mut a, mut b) = (Phone::start().await, Phone::start().await);
        a.set_members([b.id]);
        b.set_members([a.id]);

        a.connect(&b);
        b.connect(&a);

        a.connected(b.id).await;
        b.connected(a.id).await;
        a.run(move |net| net.send_control(b.id, &ready(1)));
        b.run(move |net| net.send_control(a.id, &ready(2)));
        a.work_from(b.id).await;
        b.work_from(a.id).await;
        a.hears_nothing().await;
        b.hears_nothing().await;
    }
}

#[tokio::test]
async fn a_phone_that_leaves_is_missed_once_and_may_come_back() {
    let (mut host, member) = (Phone::start().await, Phone::start().await);
    let keypair = member.keypair.clone();
    host.set_members([member.id]);
    member.connect(&host);
    host.connected(member.id).await;

    member.stop().await;
    host.disconnected(keypair_id(&keypair)).await;
    host.hears_nothing().await;

    let member = Phone::start_as(keypair).await;
    member.connect(&host);
    host.connected(member.id).await;
}

#[tokio::test]
async fn a_phone_that_is_not_there_is_reported() {
    let (mut phone, nobody) = (Phone::start().await, Phone::start().await);
    let (id, address) = (nobody.id, nobody.address.clone());
    nobody.stop().await;

    phone.run(move |net| net.connect(id, vec![address]));
    phone.unreachable(id).await;

    phone.run(move |net| net.send_control(id, &ready(1)));
    phone.unreachable(id).await;
}

/// A phone's network, polled by a task of its own.
struct Phone {
    id: PeerId,
    address: Multiaddr,
    keypair: Keypair,
    calls: mpsc::UnboundedSender<Call>,
    events: mpsc::UnboundedReceiver<NetEvent>,
    task: tokio::task::JoinHandle<()>,
}

type Call = Box<dyn FnOnce(&mut Net) -> bool + Send>;

impl Phone {
    async fn start() -> Self {
        Self::start_as(Keypair::generate_ed25519()).await
    }

    async fn start_as(keypair: Keypair) -> Self {
        let mut net = Net::new(keypair.clone()).expect("the network starts");
        let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        net.listen(any).expect("a port is free");
        let address = loop {
            if let NetEvent::Listening(address) = net.next().await {
                break address;
            }
        };
        let (id, address) = split_peer(address).expect("our own address");

        let (calls, inbox) = mpsc::unbounded_channel();
        let (outbox, events) = mpsc::unbounded_channel();
        Self {
            id,
            address,
            keypair,
            calls,
            events,
            task: tokio::spawn(drive(net, inbox, outbox)),
        }
    }

    fn run(&self, call: impl FnOnce(&mut Net) + Send + 'static) {
        let call = Box::new(|net: &mut Net| {
            call(net);
            true
        });
        assert!(self.calls.send(call).is_ok(), "the network runs");
    }

    /// Does not look at the network any more.
    fn hold(&self) {
        assert!(self.calls.send(Box::new(|_| false)).is_ok());
    }

    async fn stop(self) {
        drop(self.calls);
        self.task.await.expect("the network has not panicked");
    }

    fn connect(&self, to: &Self) {
        let (id, address) = (to.id, to.address.clone());
        self.run(move |net| net.connect(id, vec![address]));
    }

    fn set_members<const N: usize>(&self, members: [PeerId; N]) {
        self.run(move |net| net.set_members(BTreeSet::from(members)));
    }

    async fn event<T>(&mut self, mut wanted: impl FnMut(NetEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };

        timeout(PATIENCE, found).await.expect("it happens in time")
    }

    async fn join_message(&mut self) -> (PeerId, Vec<u8>) {
        self.event(|event| match event {
            NetEvent::JoinMessage { from, bytes } => Some((from, bytes)),
            _ => None,
        })
        .await
    }

    async fn work_from(&mut self, phone: PeerId) {
        self.event(|event| match event {
            NetEvent::Control { from, .. } | NetEvent::Activation { from, .. } => {
                (from == phone).then_some(())
            }
            _ => None,
        })
        .await;
    }

    async fn connected(&mut self, phone: PeerId) {
        self.event(|event| matches!(event, NetEvent::Connected(p) if p == phone).then_some(()))
            .await;
    }

    async fn disconnected(&mut self, who: PeerId) -> String {
        self.event(|event| match event {
            NetEvent::Disconnected { phone, reason } if phone == who => Some(reason),
            _ => None,
        })
        .await
    }

    async fn unreachable(&mut self, who: PeerId) {
        self.event(|event| {
            matches!(event, NetEvent::Unreachable { phone, .. } if phone == who).then_some(())
        })
        .await;
    }

    /// Nobody says anything to it; how long a ping takes, its own network tells.
    async fn hears_nothing(&mut self) {
        let said = async {
            loop {
                match self.events.recv().await {
                    Some(NetEvent::RoundTrip { .. }) => {}
                    other => return other,
                }
            }
        };
        let heard = timeout(CALM, said).await;

        assert!(heard.is_err(), "{heard:?}");
    }
}

async fn drive(
    mut net: Net,
    mut calls: mpsc::UnboundedReceiver<Call>,
    events: mpsc::UnboundedSender<NetEvent>,
) {
    loop {
        tokio::select! {
            biased;
            call = calls.recv() => match call {
                Some(call) => {
                    if !call(&mut net) {
                        std::future::pending::<()>().await;
                    }
                }
                None => return,
            },
            event = net.next() => match event {
                NetEvent::Listening(_) | NetEvent::AddressesChanged(_) => {}
                event => drop(events.send(event)),
            },
        }
    }
}

fn keypair_id(keypair: &Keypair) -> PeerId {
    identity::peer_id(&keypair.public().to_peer_id()).expect("an Ed25519 key")
}

fn ready(epoch: u64) -> Control {
    Control::Ready {
        epoch: Epoch(epoch),
    }
}

fn activation() -> Vec<u8> {
    encode_activation(Epoch(0), StepId(0), &[1.0], ActivationType::F32)
}
