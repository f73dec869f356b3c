//! What happens to a phone while the app runs: what its person allows, and what its system says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use app::api::{
    AnswerEvent, AnswerOutcome, NetworkState, PermissionKind, PermissionStatus, Problem, RunPhase,
};
use app::session::{Order, Turn};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::phone::{Circumstances, PATIENCE, Phone, Stream, answer};
use crate::{QUESTION, invite};

/// Whoever may not meet others is told why, and can chat; when they may, what runs goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_local_network_one_chats_alone_until_it_is_allowed() {
    for status in [PermissionStatus::NotAsked, PermissionStatus::Denied] {
        let anna = Phone::new("Anna", None).await;
        let (link, _) = invite(&anna).await;
        let circumstances = Circumstances {
            local_network: status,
            ..Circumstances::default()
        };
        let ben = Phone::begin(folder(), circumstances).await;
        ben.order(Order::Rename("Ben".into())).await;
        ben.order(Order::Welcome).await;
        ben.until("it is said why nobody is met", |state| {
            state.network == NetworkState::NoPermission
        })
        .await;

        ben.run_model().await;
        let conversation = ben.converse(12).await;
        let (message, _) = ben.ask(&conversation, QUESTION).await.end().await;
        assert_eq!(answer(&message).1, &AnswerOutcome::CutOff);
        let denied = Problem::NoPermission {
            permission: PermissionKind::LocalNetwork,
        };
        for order in [Order::UseInvite(link.clone()), Order::Invite] {
            assert_eq!(ben.session.order(order).await, Err(denied.clone()));
        }

        ben.bench.says_to_local_network(PermissionStatus::Granted);
        ben.session.turn(Turn::Permissions);
        let state = ben
            .until("it may meet others", |state| {
                state.network == NetworkState::Ok
            })
            .await;
        let run = state.run.as_ref().expect("it runs on");
        assert_eq!(run.phase, RunPhase::Ready);
        ben.order(Order::UseInvite(link)).await;
        ben.until("it has met Anna", |state| {
            let group = state.group.as_ref();
            group.is_some_and(|group| group.members.len() == 2)
        })
        .await;
    }
}

/// Whoever has not been told what the app does is not on the network; then, it is, without a new start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_welcome_nothing_goes_on_the_network() {
    let everywhere = || Circumstances {
        listen: None,
        ..Circumstances::default()
    };
    let phone = Phone::begin(folder(), everywhere()).await;
    let alone = until_listens(&phone, &BTreeSet::new()).await;
    let is_here = |address: &String| address.starts_with("/ip4/127.0.0.1/");
    assert!(alone.iter().all(is_here), "{alone:?}");
    assert_eq!(phone.now().network, NetworkState::Looking);
    assert!(!phone.now().welcomed);

    phone.order(Order::Rename("Ben".into())).await;
    phone.order(Order::Welcome).await;
    let together = until_listens(&phone, &alone).await;

    // The next start goes on the network at once.
    let phone = Phone::begin(phone.close().await, everywhere()).await;
    let hosts = |addresses: BTreeSet<String>| {
        let hosts = addresses.into_iter().map(|address| {
            let mut parts = address.split('/').map(str::to_owned);
            parts.nth(2).expect("an address has a host")
        });
        hosts.collect::<BTreeSet<_>>()
    };
    let again = until_listens(&phone, &BTreeSet::new()).await;
    assert_eq!(hosts(again), hosts(together));
}

/// A page that is loaded anew in the middle of an answer hears it as if it had asked, and can stop it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_taken_up_by_who_did_not_ask() {
    let phone = Phone::new("Dora", None).await;
    phone.run_model().await;
    let id = phone.converse(500).await;
    assert!(watch(&phone, &id).await.is_none(), "none is written");

    let mut asked = phone.ask(&id, "Tell me a very long story.").await;
    let heard = asked.words(20).await;
    drop(asked);
    let mut second = watch(&phone, &id).await.expect("it is being written");
    let AnswerEvent::Begun {
        dropped_from,
        added,
    } = second.next().await
    else {
        panic!("`begun` is the first");
    };
    assert_eq!(dropped_from.as_ref(), Some(&added[0].id), "in its place");
    assert_eq!(answer(&added[0]), ("", &AnswerOutcome::UnderWay));
    let text = second.words(heard.len() + 20).await;
    assert!(text.starts_with(&heard), "{text:?} after {heard:?}");

    let third = watch(&phone, &id).await.expect("it is being written");
    phone.order(Order::StopAnswer(id.clone())).await;
    let (stopped, all) = third.end().await;
    let (second, _) = second.end().await;
    assert_eq!(stopped, second, "all hear the same end");
    let (whole, outcome) = answer(&stopped);
    assert_eq!(outcome, &AnswerOutcome::Stopped);
    let words = all.iter().map(|event| match event {
        AnswerEvent::Text { text } => text.as_str(),
        _ => "",
    });
    assert_eq!(words.collect::<String>(), whole);
    assert!(watch(&phone, &id).await.is_none(), "it has ended");
}

async fn watch(phone: &Phone, id: &app::api::ConversationId) -> Option<Stream> {
    let watched = phone.session.watch_answer(id.clone()).await;

    watched.expect("the session goes on").map(Stream)
}

/// Waits until a phone says where it listens, and that is not where it was.
async fn until_listens(phone: &Phone, before: &BTreeSet<String>) -> BTreeSet<String> {
    let listens = async {
        loop {
            let text = phone.session.diagnostics().await.expect("it goes on").text;
            let addresses = text
                .lines()
                .filter_map(|line| line.strip_prefix("address: "));
            let addresses = addresses.filter_map(|address| address.split("/p2p/").next());
            let addresses = addresses.map(str::to_owned).collect::<BTreeSet<_>>();
            if !addresses.is_empty() && addresses != *before {
                return addresses;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };

    timeout(PATIENCE, listens)
        .await
        .expect("it listens somewhere else")
}

fn folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("there is room for a folder"))
}
