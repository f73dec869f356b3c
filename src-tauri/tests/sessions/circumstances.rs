//! What happens to a phone while the app runs: what its person allows, and what its system says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use app::api::{
    AnswerEvent, AnswerOutcome, AppState, ConversationId, ModelAvailability, NetworkState,
    PermissionKind, PermissionStatus, Problem, RunPhase, SettingChange,
};
use app::models::Sources;
use app::session::{Order, Turn};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::phone::{Circumstances, PATIENCE, Phone, Stream, answer, models_folder, smollm2};
use crate::support::server::{Behaviour, Server};
use crate::{QUESTION, alone, group_of_three, invite};

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

/// A download that nobody has paused goes on whenever it costs nothing: in the next network, and at the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_goes_on_where_it_may_unless_a_person_paused_it() {
    let file = std::fs::read(models_folder().join(alone::FILE)).expect("the test model is here");
    // Longer than this test.
    let server = Server::start(file, Behaviour::Slow(Duration::from_millis(100))).await;
    let beside = || Circumstances {
        models: Sources {
            folder: None,
            base: Some(server.url()),
        },
        ..Circumstances::default()
    };
    let comes = |state: &AppState| {
        matches!(
            smollm2(state).availability,
            ModelAvailability::Downloading { done_bytes, .. } if done_bytes > 0
        )
    };
    let rests = |state: &AppState| {
        matches!(
            smollm2(state).availability,
            ModelAvailability::Paused { .. }
        )
    };
    let phone = Phone::begin(folder(), beside()).await;
    let id = smollm2(&phone.now()).id.clone();
    phone.order(Order::Download(id.clone())).await;
    phone.until("it comes", comes).await;

    phone.bench.is(|snapshot| snapshot.is_metered = true);
    phone.until("it would cost money", rests).await;
    let again = phone.session.order(Order::Download(id.clone())).await;
    assert_eq!(again, Err(Problem::Metered));
    let may_cost = |may| Order::ChangeSetting(SettingChange::UseMetered(may));
    phone.order(may_cost(true)).await;
    phone.until("it may cost money", comes).await;
    phone.order(may_cost(false)).await;
    phone.until("it may not", rests).await;
    phone.bench.is(|snapshot| snapshot.is_metered = false);
    phone.until("it costs nothing", comes).await;

    let phone = Phone::begin(phone.close().await, beside()).await;
    phone.until("it goes on after a new start", comes).await;
    phone.order(Order::PauseDownload(id)).await;
    phone.until("a person paused it", rests).await;

    let n_requests = server.requests().len();
    let phone = Phone::begin(phone.close().await, beside()).await;
    for is_metered in [true, false] {
        phone.bench.is(|snapshot| snapshot.is_metered = is_metered);
        phone
            .until("it is known what the network costs", |state| {
                state.device.metered == is_metered && state.network == NetworkState::Ok
            })
            .await;
    }
    assert!(rests(&phone.now()));
    assert_eq!(server.requests().len(), n_requests, "nobody asked for it");
}

/// A phone whose system keeps warning of too little memory gives layers to the others, and throws nothing away for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_short_of_memory_computes_less() {
    let [anna, ben, cleo] = group_of_three().await;
    let n_layers = |state: &AppState, phone: &Phone| {
        let run = state.run.as_ref().expect("it runs");
        let mut stages = run.stages.iter();
        let stage = stages.find(|stage| stage.phone == phone.now().me);
        stage.map_or(0, |stage| stage.layers[1] - stage.layers[0])
    };
    let state = anna.now();
    let short = if n_layers(&state, &ben) > 0 {
        &ben
    } else {
        &cleo
    };
    let before = n_layers(&state, short);
    assert!(before > 0, "the model was to be shared: {state:?}");
    let n_shards = n_shards(short);

    let warns = async {
        loop {
            short.bench.is(|snapshot| snapshot.low_memory = true);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let is_spared = anna.until("it computes less", |state| {
        let run = state.run.as_ref();
        run.is_some_and(|run| run.phase == RunPhase::Ready) && n_layers(state, short) < before
    });
    tokio::select! {
        _ = is_spared => {}
        () = warns => {}
    }

    assert!(self::n_shards(short) >= n_shards, "they cost no memory");
    let conversation = cleo.converse(12).await;
    let (message, _) = cleo.ask(&conversation, QUESTION).await.end().await;
    assert_eq!(answer(&message).1, &AnswerOutcome::CutOff);
}

/// Returns how many files lie among a phone's shards.
fn n_shards(phone: &Phone) -> usize {
    let files = std::fs::read_dir(phone.folder.path().join("shards"));

    files.expect("it has a folder for them").count()
}

async fn watch(phone: &Phone, id: &ConversationId) -> Option<Stream> {
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
