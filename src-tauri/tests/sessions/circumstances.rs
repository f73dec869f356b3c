//! What happens to a phone while the app runs: what its person allows, and what its system says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use app::api::{AnswerOutcome, NetworkState, PermissionKind, PermissionStatus, Problem, RunPhase};
use app::session::{Order, Turn};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::phone::{Circumstances, PATIENCE, Phone, answer};
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
