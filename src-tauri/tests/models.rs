//! Models: downloads from servers that misbehave, files that people bring, and what is remembered.
#![allow(clippy::unwrap_used)] // in a test it is the assertion

mod support;

use std::fs;
#[cfg(unix)]
use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use app::api::{Fit, ModelAvailability, ModelId, Problem, ServerFault};
use app::history::History;
use app::models::{
    Card, Config, Limits, Listed, Models, Network, Offer, Patience, Picked, Shape, Sources,
    Trouble, catalogue,
};
use gguf_tools::{Synth, TensorType};
use node::work::Wish;
use sha2::{Digest, Sha256};
use support::server::{Behaviour, Request, Server};
use tempfile::TempDir;
#[cfg(unix)]
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Bytes of the file that is served: some blocks, and not a whole number of them.
const FILE_BYTES: usize = (7 << 20) / 2 + 12_345;

const FREE: Network = Network {
    is_metered: false,
    may_cost: false,
};

const HERE: ModelAvailability = ModelAvailability::Here;

/// A phone with a folder for models, to which one is offered.
struct Phone {
    folder: TempDir,
    kept: Kept,
    file: Vec<u8>,
    offer: Offer,
    models: Models,
}

/// What a phone remembers, from start to start.
struct Kept {
    history: History,
    _folder: TempDir,
}

/// How a download ends.
#[derive(Debug)]
enum End {
    /// The model is here, and it took so many requests.
    Here(usize),
    /// It is given up after so many requests, and this is said of the server.
    Fault(usize, ServerFault),
}

#[tokio::test]
async fn whatever_a_server_does_a_model_is_right_or_not_here() {
    use ServerFault::{
        BreaksOff, Fails, Insecure, Refuses, StartsOver, Unreachable, WrongHash, WrongLength,
    };

    let cut = FILE_BYTES / 3;
    let mib = 1 << 20;
    let cases = [
        (Behaviour::Honest, End::Here(1)),
        (Behaviour::NoRange, End::Here(1)),
        (Behaviour::NoLength, End::Here(1)),
        (Behaviour::Cut(cut), End::Here(4)),
        // Not a MiB at a time: after so many tries in a row people are told.
        (Behaviour::Cut(100_000), End::Fault(4, BreaksOff)),
        (Behaviour::Cut(0), End::Fault(4, BreaksOff)),
        (Behaviour::CutWithoutRange(cut, 2), End::Here(3)),
        (
            Behaviour::CutWithoutRange(cut, 99),
            End::Fault(4, StartsOver),
        ),
        (Behaviour::OtherLength(1), End::Fault(1, WrongLength)),
        (Behaviour::OtherLength(-1), End::Fault(1, WrongLength)),
        (Behaviour::Endless, End::Fault(1, WrongLength)),
        (Behaviour::WrongBytes, End::Fault(1, WrongHash)),
        (Behaviour::WrongBeginning(cut), End::Fault(2, WrongHash)),
        (Behaviour::NewVersion(cut), End::Here(2)),
        (Behaviour::OtherRange(cut, 1), End::Here(3)),
        (Behaviour::OtherRange(cut, 99), End::Here(3)),
        (Behaviour::Unsatisfiable(cut, 1), End::Here(3)),
        (Behaviour::Silent, End::Fault(4, Unreachable)),
        (Behaviour::Stall(mib), End::Here(2)),
        (Behaviour::Busy(3), End::Here(4)),
        (Behaviour::Busy(99), End::Fault(4, Fails { status: 503 })),
        (
            Behaviour::Status(404),
            End::Fault(1, Refuses { status: 404 }),
        ),
        (
            Behaviour::Status(403),
            End::Fault(1, Refuses { status: 403 }),
        ),
        (
            Behaviour::Status(204),
            End::Fault(1, Refuses { status: 204 }),
        ),
        (Behaviour::RedirectToSelf(3), End::Here(4)),
        (Behaviour::RedirectToSelf(99), End::Fault(6, Insecure)),
        (
            Behaviour::Redirect("http://192.0.2.1/a".into()),
            End::Fault(1, Insecure),
        ),
        (
            Behaviour::Redirect("file:///etc/passwd".into()),
            End::Fault(1, Insecure),
        ),
        (Behaviour::Portal, End::Fault(1, WrongLength)),
        (Behaviour::Garbage, End::Fault(4, Unreachable)),
        (Behaviour::Packed, End::Fault(1, WrongHash)),
    ];

    for (behaviour, end) in cases {
        let server = Server::start(file(), behaviour.clone()).await;
        let phone = Phone::of(&server).await;

        phone.download().await.unwrap();
        let found = phone.settled().await;

        let requests = server.requests();
        let why = format!(
            "{behaviour:?}: {found:?} after {} requests, wanted {end:?}",
            requests.len()
        );
        match (end, found) {
            (End::Here(n), ModelAvailability::Here) if n == requests.len() => phone.check_whole(),
            (
                End::Fault(n, wanted),
                ModelAvailability::Failed {
                    problem: Problem::Server { host, fault },
                },
            ) => {
                assert!(n == requests.len() && fault == wanted, "{why}");
                assert_eq!(host, "127.0.0.1", "{why}");
                assert!(!phone.whole().exists(), "{why}");
                if fault == WrongHash {
                    assert_eq!(phone.files(), [""; 0], "{why}");
                }
            }
            _ => panic!("{why}"),
        }
    }
}

#[tokio::test]
async fn the_rest_is_asked_for_if_the_file_is_the_same() {
    let server = Server::start(file(), Behaviour::Cut(FILE_BYTES / 2)).await;
    let phone = Phone::of(&server).await;

    phone.download().await.unwrap();
    assert_eq!(phone.settled().await, HERE);

    let rest = Request {
        path: "/tiny.gguf".into(),
        from: Some(FILE_BYTES / 2),
        if_range: Some("\"v1\"".into()),
    };
    assert_eq!(server.requests()[1], rest);
}

#[tokio::test]
async fn a_paused_download_goes_on_where_it_was() {
    let server = Server::start(file(), Behaviour::Slow(Duration::from_millis(20))).await;
    let phone = Phone::of(&server).await;

    phone.download().await.unwrap();
    phone.has_come(1 << 20).await;
    phone.models.pause(phone.id()).await.unwrap();
    let ModelAvailability::Paused { done_bytes } = phone.now() else {
        panic!("{:?}", phone.now());
    };
    assert!((1 << 20..FILE_BYTES as u64).contains(&done_bytes));
    phone.models.resume(FREE).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(
        phone.now(),
        ModelAvailability::Paused { done_bytes },
        "nobody asked for it"
    );

    phone.download().await.unwrap();
    phone.download().await.unwrap(); // tapped twice
    assert_eq!(phone.settled().await, HERE);

    phone.check_whole();
    let asked = server
        .requests()
        .iter()
        .map(|request| request.from)
        .collect::<Vec<_>>();
    assert_eq!(asked, [None, usize::try_from(done_bytes).ok()]);
}

#[tokio::test]
async fn a_suspended_download_is_resumed() {
    let server = Server::start(file(), Behaviour::Slow(Duration::from_millis(20))).await;
    let phone = Phone::of(&server).await;

    phone.download().await.unwrap();
    phone.has_come(1 << 20).await;
    phone.models.suspend().await;
    assert!(matches!(phone.now(), ModelAvailability::Paused { .. }));
    let costly = Network {
        is_metered: true,
        may_cost: false,
    };
    assert_eq!(phone.models.resume(costly).await, Err(Trouble::Metered));

    phone.models.resume(FREE).await.unwrap();

    assert_eq!(phone.settled().await, HERE);
    phone.check_whole();
}

/// A phone that leaves its Wi-Fi fetches nothing for money, and goes on in the next one.
#[tokio::test]
async fn a_download_is_stopped_by_a_network_that_costs() {
    let server = Server::start(file(), Behaviour::Slow(Duration::from_millis(20))).await;
    let phone = Phone::of(&server).await;
    let at = |is_metered, may_cost| Network {
        is_metered,
        may_cost,
    };

    phone.download().await.unwrap();
    phone.has_come(1 << 20).await;
    phone.models.resume(at(true, true)).await.unwrap();
    assert!(matches!(phone.now(), ModelAvailability::Downloading { .. }));
    assert_eq!(
        phone.models.resume(at(true, false)).await,
        Err(Trouble::Metered)
    );
    assert!(matches!(phone.now(), ModelAvailability::Paused { .. }));

    phone.models.resume(FREE).await.unwrap();
    assert_eq!(phone.settled().await, HERE);
    phone.check_whole();
    assert_eq!(server.requests().len(), 2, "it went on where it was");
}

#[tokio::test]
async fn a_download_that_is_deleted_leaves_nothing() {
    let server = Server::start(file(), Behaviour::Slow(Duration::from_millis(20))).await;
    let phone = Phone::of(&server).await;

    phone.download().await.unwrap();
    phone.has_come(1 << 20).await;
    phone.models.delete(phone.id()).await.unwrap();

    assert_eq!(phone.now(), ModelAvailability::NotHere);
    assert_eq!(phone.files(), [""; 0]);
    assert_eq!(phone.models.storage().await.unwrap().0, 0);
}

#[tokio::test]
async fn a_name_that_is_none_of_a_model_leads_to_no_file() {
    let server = Server::start(file(), Behaviour::Honest).await;
    let phone = Phone::of(&server).await;
    let outside = tempfile::tempdir().unwrap();
    let name = outside.path().join("x");
    let files = ["gguf", "part", "json"].map(|kind| outside.path().join(format!("x.{kind}")));
    for file in &files {
        std::fs::write(file, "somebody else's").unwrap();
    }
    let relative = format!("../{}/x", outside.path().file_name().unwrap().display());

    for id in [relative.as_str(), name.to_str().unwrap(), "", "00"] {
        let id = ModelId(id.into());
        assert_eq!(phone.models.delete(&id).await, Err(Trouble::Unknown));
        assert_eq!(phone.models.pause(&id).await, Err(Trouble::Unknown));
    }
    for file in &files {
        assert_eq!(std::fs::read(file).unwrap(), b"somebody else's");
    }
}

#[tokio::test]
async fn a_part_that_was_damaged_meanwhile_is_begun_anew() {
    let server = Server::start(file(), Behaviour::Honest).await;
    let phone = Phone::of(&server).await;
    let mut part = phone.file[..2_000_000].to_vec();
    part[1_000_000] ^= 1;
    fs::write(phone.path("part"), part).unwrap();

    phone.download().await.unwrap();

    assert_eq!(phone.settled().await, HERE);
    phone.check_whole();
    let asked = server
        .requests()
        .iter()
        .map(|request| request.from)
        .collect::<Vec<_>>();
    assert_eq!(asked, [Some(2_000_000), None]);
}

#[tokio::test]
async fn notes_of_any_kind_do_no_harm() {
    let notes: [&[u8]; 5] = [
        b"",
        b"\xff\xfe",
        b"{\"version\":1,\"file_bytes\":1,\"etag\":null,\"is_wanted\":true}",
        b"{\"version\":1,\"file_bytes\":3682361,\"etag\":\"\\\"v0\\\"\",\"is_wanted\":true}",
        b"{\"version\":1,\"file_bytes\":3682361,\"etag\":\"\\\"a\\r\\nHost: b\\\"\",\"is_wanted\":true}",
    ];
    for note in notes {
        let server = Server::start(file(), Behaviour::Honest).await;
        let phone = Phone::of(&server).await;
        fs::write(phone.path("part"), &phone.file[..500_000]).unwrap();
        fs::write(phone.path("json"), note).unwrap();

        phone.download().await.unwrap();

        assert_eq!(phone.settled().await, HERE, "{note:?}");
        phone.check_whole();
    }
}

/// The app is killed in the middle of a download, several times; the last one ends it.
#[tokio::test]
async fn a_killed_download_goes_on_when_the_app_is_started_again() {
    let server = Server::start(file(), Behaviour::Slow(Duration::from_millis(20))).await;
    let phone = Phone::of(&server).await;
    let part = phone.path("part");
    let mut last_bytes = 0;

    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_that_is_killed", "--nocapture"])
            .env("MODELS_FOLDER", phone.folder.path())
            .env("MODELS_SERVER", server.url().as_str())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let grown = async {
            while part.metadata().map_or(0, |part| part.len()) <= last_bytes {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), grown)
            .await
            .expect("a part grows");
        child.kill().unwrap();
        child.wait().unwrap();
        last_bytes = part.metadata().unwrap().len();
        assert!(
            last_bytes < FILE_BYTES as u64,
            "it is not killed in the middle"
        );
    }

    let phone = phone.restarted(&server).await;
    assert_eq!(
        phone.now(),
        ModelAvailability::Paused {
            done_bytes: last_bytes
        }
    );
    phone.models.resume(FREE).await.unwrap();

    assert_eq!(phone.settled().await, HERE);
    phone.check_whole();
    assert_eq!(
        server.requests().last().unwrap().from,
        Some(last_bytes as usize)
    );
    assert_eq!(phone.restarted(&server).await.now(), HERE);
}

/// Only something when it is started by the test above.
#[tokio::test]
async fn a_process_that_is_killed() {
    let (Some(folder), Ok(server)) = (
        std::env::var_os("MODELS_FOLDER"),
        std::env::var("MODELS_SERVER"),
    ) else {
        return;
    };
    let sources = Sources {
        base: Some(server.parse().unwrap()),
        folder: None,
    };
    let kept = Kept::new();
    let models = Models::open(
        config(folder.as_ref(), offer(&file()), sources),
        kept.open(),
    )
    .await
    .unwrap();
    models.download(&offer(&file()).id, FREE).await.unwrap();

    sleep(Duration::from_secs(60)).await;
    panic!("nobody has killed it");
}

#[tokio::test]
async fn nothing_is_begun_that_costs_money_or_has_no_room() {
    let server = Server::start(file(), Behaviour::Honest).await;
    let phone = Phone::of(&server).await;
    let (id, bytes) = (phone.id(), FILE_BYTES as u64);
    let costly = |may_cost| Network {
        is_metered: true,
        may_cost,
    };
    let limits = |quota_bytes| Limits {
        quota_bytes,
        shards_bytes: 1000,
    };

    assert_eq!(
        phone.models.download(id, costly(false)).await,
        Err(Trouble::Metered)
    );
    phone.models.set_limits(limits(bytes + 999));
    let short = phone.models.download(id, FREE).await;
    assert_eq!(short, Err(Trouble::StorageShort { missing_bytes: 1 }));
    let unknown = phone
        .models
        .download(&ModelId("../../etc/passwd".into()), FREE)
        .await;
    assert_eq!(unknown, Err(Trouble::Unknown));
    assert_eq!(
        (phone.now(), server.requests().len()),
        (ModelAvailability::NotHere, 0)
    );

    phone.models.set_limits(limits(bytes + 1000));
    phone.models.download(id, costly(true)).await.unwrap();
    assert_eq!(phone.settled().await, HERE);
    assert_eq!(phone.models.storage().await.unwrap().0, bytes);
}

#[tokio::test]
async fn no_address_without_tls_is_asked_but_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Offer {
        url: Some("http://192.0.2.1/tiny.gguf".parse().unwrap()),
        ..offer(&file())
    };
    let phone = Phone::at(folder, plain, Sources::default()).await;

    phone.download().await.unwrap();

    let problem = Problem::Server {
        host: "192.0.2.1".into(),
        fault: ServerFault::Insecure,
    };
    assert_eq!(phone.settled().await, ModelAvailability::Failed { problem });
}

#[tokio::test]
async fn a_file_in_the_local_folder_is_taken_without_a_network_if_it_is_right() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(file(), Behaviour::Honest).await;
    let sources = Sources {
        base: Some(server.url()),
        folder: Some(cache.path().into()),
    };
    let costly = Network {
        is_metered: true,
        may_cost: false,
    };

    fs::write(cache.path().join("tiny.gguf"), file()).unwrap();
    let phone = Phone::at(
        tempfile::tempdir().unwrap(),
        offer(&file()),
        sources.clone(),
    )
    .await;
    phone.models.download(phone.id(), costly).await.unwrap();
    assert_eq!(phone.settled().await, HERE);
    phone.check_whole();
    assert_eq!(server.requests(), []);

    let mut wrong = file();
    wrong[FILE_BYTES - 1] ^= 1;
    fs::write(cache.path().join("tiny.gguf"), wrong).unwrap();
    let phone = Phone::at(
        tempfile::tempdir().unwrap(),
        offer(&file()),
        sources.clone(),
    )
    .await;
    phone.download().await.unwrap();
    assert_eq!(phone.settled().await, HERE);
    phone.check_whole();
    assert_eq!(server.requests().len(), 1);

    fs::write(cache.path().join("tiny.gguf"), "too short").unwrap();
    let phone = Phone::at(tempfile::tempdir().unwrap(), offer(&file()), sources).await;
    assert_eq!(
        phone.models.download(phone.id(), costly).await,
        Err(Trouble::Metered)
    );
}

#[tokio::test]
async fn a_file_that_a_person_brings_is_used_where_it_lies() {
    let (phone, server) = idle_phone().await;
    let (_own, path) = own_file("tiny-llama");

    let id = phone.bring(&path).await;
    let listed = phone.models.get(&id).unwrap();
    assert!(listed.imported);
    assert_eq!(
        (
            listed.card.architecture.as_str(),
            listed.card.shape.layer_bytes.len()
        ),
        ("llama", 6)
    );
    assert_eq!(listed.card.shape.fit(&[8 << 30]), Fit::Fits);
    assert_eq!(
        phone.models.path(&id).await.unwrap(),
        path.canonicalize().unwrap()
    );
    assert!(phone.files().is_empty(), "nothing was copied");

    let work = phone.models.work(&id, &Wish::of(3)).await.unwrap();
    assert_eq!((work.manifest.n_layers, work.n_phones), (6, 3));
    let again = phone.models.work(&id, &Wish::of(2)).await.unwrap();
    assert!(
        Arc::ptr_eq(&again.manifest, &work.manifest),
        "it was read again"
    );
    let alone = phone.models.work(&id, &Wish::of(1)).await.unwrap();
    assert_eq!(alone.manifest.layers.len(), 1);

    let phone = phone.restarted(&server).await;
    assert_eq!(phone.models.get(&id).unwrap().availability, HERE);

    phone.models.delete(&id).await.unwrap();
    assert_eq!(phone.models.get(&id), Err(Trouble::Unknown));
    assert!(path.exists(), "a person's own file was removed");
    let phone = phone.restarted(&server).await;
    assert_eq!(phone.models.get(&id), Err(Trouble::Unknown));
}

#[tokio::test]
async fn a_file_that_was_moved_or_changed_is_missed() {
    let (phone, server) = idle_phone().await;
    let (_own, path) = own_file("tiny-qwen3");
    let id = phone.bring(&path).await;

    let bytes = fs::read(&path).unwrap();
    sleep(Duration::from_millis(20)).await; // another time of change
    fs::write(&path, bytes).unwrap();
    let found = phone.models.path(&id).await;
    let trouble = found.expect_err("it was changed");
    let name = "mine.gguf".to_owned();
    assert_eq!(Problem::from(trouble), Problem::FileChanged { name });

    assert_eq!(phone.bring(&path).await, id);
    fs::remove_file(&path).unwrap();
    let found = phone.models.work(&id, &Wish::of(1)).await.map(|_| ());
    assert!(
        matches!(&found, Err(Trouble::Vanished { name }) if name == "mine.gguf"),
        "{found:?}"
    );
    let name = "mine.gguf".to_owned();
    let problem = Problem::FileGone { name };
    assert_eq!(
        phone.settled_of(&id).await,
        ModelAvailability::Failed { problem }
    );
    let phone = phone.restarted(&server).await;
    assert!(matches!(
        phone.models.get(&id).unwrap().availability,
        ModelAvailability::Failed { .. }
    ));
}

/// As Android hands files over: open, and without a path that this process may use.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_only_open_is_used_as_it_is() {
    let (phone, server) = idle_phone().await;
    let (_own, path) = own_file("tiny-llama");
    let (file, kept) = (
        fs::File::open(&path).unwrap(),
        fs::File::open(&path).unwrap(),
    );
    fs::remove_file(&path).unwrap();

    let picked = Picked::Opened {
        file,
        name: "mine.gguf".into(),
        address: Some("content://downloads/7".into()),
    };
    let id = phone.import(picked).await;
    assert_eq!(phone.settled_of(&id).await, HERE);
    let work = phone.models.work(&id, &Wish::of(2)).await.unwrap();
    assert_eq!(work.manifest.n_layers, 6);

    let phone = phone.restarted(&server).await;
    assert_eq!(
        phone.models.unopened(),
        [(id.clone(), "content://downloads/7".to_owned())]
    );
    assert!(matches!(
        phone.models.get(&id).unwrap().availability,
        ModelAvailability::Failed { .. }
    ));
    phone.models.reopen(&id, kept).await.unwrap();
    assert_eq!(phone.settled_of(&id).await, HERE);
    phone.models.work(&id, &Wish::of(2)).await.unwrap();
    assert_eq!(phone.models.unopened(), []);
}

/// As iOS hands files over: a copy, in a folder that it clears, of an app whose own folder is elsewhere after an update.
#[tokio::test]
async fn a_copy_that_the_system_has_made_is_kept_wherever_the_folder_is() {
    let (phone, server) = idle_phone().await;
    let (own, path) = own_file("tiny-llama");
    let no_model = own.path().join("other");
    fs::write(&no_model, "no model at all").unwrap();
    let refused = phone.models.import(Picked::Given(no_model)).await;
    assert!(refused.is_err());
    assert_eq!(phone.n_copies(), 0, "what is no model is not kept");

    let id = phone.import(Picked::Given(path.clone())).await;
    assert_eq!(phone.settled_of(&id).await, HERE);
    assert!(!path.exists(), "it was moved");
    drop(own);
    let phone = phone.updated(&server).await;
    assert_eq!(phone.models.get(&id).unwrap().availability, HERE);
    phone.models.work(&id, &Wish::of(2)).await.unwrap();

    synth("tiny-llama", &phone.folder.path().join("again"));
    let again = Picked::Given(phone.folder.path().join("again"));
    assert_eq!(phone.import(again).await, id);
    assert_eq!(phone.n_copies(), 1, "one is enough");
    phone.models.delete(&id).await.unwrap();
    assert_eq!(phone.n_copies(), 0);
}

/// As Android hands over what a cloud provides: only now, and never again.
#[tokio::test]
async fn a_file_that_cannot_be_opened_again_is_copied_and_the_copy_goes_with_it() {
    let (phone, server) = idle_phone().await;
    let (own, path) = own_file("tiny-llama");
    let opened = |path: &Path| Picked::Opened {
        file: fs::File::open(path).unwrap(),
        name: "mine.gguf".into(),
        address: None,
    };
    let no_model = own.path().join("other");
    fs::write(&no_model, "no model at all").unwrap();
    assert!(phone.models.import(opened(&no_model)).await.is_err());
    assert_eq!(phone.n_copies(), 0, "what is no model is not kept");

    let id = phone.import(opened(&path)).await;
    assert_eq!(phone.settled_of(&id).await, HERE);
    assert_eq!(phone.import(opened(&path)).await, id);
    assert_eq!(phone.n_copies(), 1);
    fs::remove_file(&path).unwrap();

    fs::write(phone.folder.path().join("left by a crash.copy"), "x").unwrap();
    let phone = phone.restarted(&server).await;
    assert_eq!(phone.n_copies(), 1);
    assert_eq!(phone.models.get(&id).unwrap().availability, HERE);
    phone.models.work(&id, &Wish::of(2)).await.unwrap();

    let full = Limits {
        quota_bytes: 1,
        shards_bytes: 0,
    };
    phone.models.set_limits(full);
    synth("tiny-qwen3", &path);
    let short = phone.models.import(opened(&path)).await;
    assert!(
        matches!(short, Err(Trouble::StorageShort { .. })),
        "{short:?}"
    );

    phone.models.delete(&id).await.unwrap();
    assert_eq!(phone.n_copies(), 0);
}

/// Whatever has become of a model, a person can be rid of it, and it is not there again at the next start.
#[tokio::test]
async fn what_is_gone_or_half_here_can_be_removed() {
    let server = Server::start(file(), Behaviour::Slow(Duration::from_millis(20))).await;
    let phone = Phone::of(&server).await;
    let before = phone.listing();
    let (own, path) = own_file("tiny-llama");
    let copied = own.path().join("other");
    synth("tiny-qwen3", &copied);

    let mut brought = vec![phone.bring(&path).await];
    fs::remove_file(&path).unwrap();
    let picked = Picked::Opened {
        file: fs::File::open(&copied).unwrap(),
        name: "mine.gguf".into(),
        address: None,
    };
    brought.push(phone.import(picked).await);
    for file in phone.files() {
        if file.ends_with(".copy") {
            fs::remove_file(phone.folder.path().join(file)).unwrap();
        }
    }
    phone.download().await.unwrap();
    phone.has_come(1 << 20).await;
    phone.models.pause(phone.id()).await.unwrap();
    brought.push(phone.id().clone());

    let phone = phone.restarted(&server).await;
    for id in &brought {
        let listed = phone.models.get(id).unwrap();
        let is_gone = matches!(listed.availability, ModelAvailability::Failed { .. });
        assert_eq!((listed.offered, listed.imported), (!is_gone, is_gone));
        phone.models.delete(id).await.unwrap();
    }
    assert_eq!(phone.listing(), before);
    assert_eq!(phone.restarted(&server).await.listing(), before);
}

/// What one has been promised is not there for another who asks at the same moment.
#[tokio::test]
async fn two_that_are_brought_at_once_are_not_given_the_same_room() {
    let (phone, _server) = idle_phone().await;
    let (_own, path) = own_file("tiny-llama");
    let opened = || Picked::Opened {
        file: fs::File::open(&path).unwrap(),
        name: "mine.gguf".into(),
        address: None,
    };
    let bytes = path.metadata().unwrap().len();
    phone.models.set_limits(Limits {
        quota_bytes: bytes * 3 / 2,
        shards_bytes: 0,
    });

    let (one, other) = tokio::join!(phone.models.import(opened()), phone.models.import(opened()));

    let is_short = |imported: &Result<_, _>| matches!(imported, Err(Trouble::StorageShort { .. }));
    assert!(is_short(&one) != is_short(&other), "{one:?}, {other:?}");
}

/// A cloud's file comes through a pipe, as slowly as it likes, and may stop coming: whoever waits sees how far it is, and
/// can stop it at any time.
#[cfg(unix)]
#[tokio::test]
async fn a_copy_is_seen_coming_and_can_be_stopped_whenever_nothing_comes() {
    let (phone, _server) = idle_phone().await;
    let (_own, path) = own_file("tiny-llama");
    let (before, bytes) = (phone.listing(), fs::read(&path).unwrap());

    let (importing, mut pipe) = phone.import_from_pipe();
    pipe.write_all(&bytes[..2]).unwrap();
    let copying = phone.copying(2).await;
    assert_eq!(
        (copying.card.name.as_str(), copying.imported),
        ("mine.gguf", true)
    );
    assert_eq!(copying.card.file_bytes, 0, "a pipe does not say");
    phone.models.suspend().await;
    assert_eq!(phone.n_copies(), 1, "it could not be had again");
    phone.models.delete(&copying.id).await.unwrap();
    assert_eq!(importing.await.unwrap(), Ok(None));
    assert_eq!((phone.listing(), phone.n_copies()), (before.clone(), 0));

    let (importing, pipe) = phone.import_from_pipe();
    phone.copying(0).await;
    phone.models.end().await;
    assert_eq!(importing.await.unwrap(), Ok(None), "the app ends");
    assert_eq!((phone.listing(), phone.n_copies()), (before.clone(), 0));
    drop(pipe);

    let full = Limits {
        quota_bytes: 10 << 20,
        shards_bytes: 0,
    };
    phone.models.set_limits(full);
    let (importing, mut pipe) = phone.import_from_pipe();
    pipe.write_all(&bytes[..2]).unwrap();
    let short = importing.await.unwrap();
    assert!(
        matches!(short, Err(Trouble::StorageShort { missing_bytes }) if missing_bytes > 5 << 20),
        "{short:?}"
    );
    assert_eq!((phone.listing(), phone.n_copies()), (before, 0));

    phone.models.set_limits(Limits::default());
    let (importing, mut pipe) = phone.import_from_pipe();
    std::thread::spawn(move || pipe.write_all(&bytes));
    let id = importing.await.unwrap().unwrap().expect("nobody stops it");
    assert_eq!(phone.settled_of(&id).await, HERE);
    assert_eq!(phone.n_copies(), 1);
}

/// As where an app goes behind others while it reads what was brought.
#[tokio::test]
async fn reading_what_was_brought_goes_on_after_a_rest() {
    let (phone, _server) = idle_phone().await;
    let (_own, path) = own_file("tiny-llama");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(1 << 30).unwrap(); // takes long enough to be stopped
    let id = phone.import(Picked::Path(path)).await;

    phone.models.suspend().await;
    let stopped = phone.models.get(&id).unwrap().availability;
    assert!(matches!(stopped, ModelAvailability::Checking { .. }));
    phone.models.resume(FREE).await.unwrap();

    assert_eq!(phone.settled_of(&id).await, HERE);
}

#[tokio::test]
async fn files_that_are_no_models_are_refused_in_words_that_help() {
    let (phone, _server) = idle_phone().await;
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("a.gguf");
    synth("tiny-llama", &path);
    let good = fs::read(&path).unwrap();
    let opt = replaced(
        &good,
        b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
        b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0mamba",
    );
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("an empty file", Vec::new(), "not a GGUF"),
        (
            "a text",
            b"Hello, I am no model at all".to_vec(),
            "not a GGUF",
        ),
        (
            "a file cut short",
            good[..good.len() - 1].to_vec(),
            "too early",
        ),
        (
            "counts beyond reason",
            [b"GGUF\x03\0\0\0".as_slice(), &[0xff; 64]].concat(),
            "at most",
        ),
        ("only the magic", b"GGUF".to_vec(), "too early"),
    ];

    for (what, bytes, words) in cases {
        fs::write(&path, bytes).unwrap();
        let refused = phone.models.import(Picked::Path(path.clone())).await;
        let Err(trouble) = refused else {
            panic!("{what} was taken")
        };
        assert!(trouble.to_string().contains(words), "{what}: {trouble}");
    }
    fs::write(&path, opt).unwrap();
    let refused = phone.models.import(Picked::Path(path)).await;
    assert_eq!(
        refused,
        Err(Trouble::Unsupported {
            architecture: "mamba".into()
        })
    );
    assert!(
        phone
            .models
            .import(Picked::Path(own.path().into()))
            .await
            .is_err()
    );
    assert!(
        phone
            .models
            .import(Picked::Path("/nowhere/a.gguf".into()))
            .await
            .is_err()
    );
    assert_eq!(phone.files(), [""; 0]);
}

/// Headers with one byte wrong are refused or taken, whatever it is; nothing falls over.
#[tokio::test]
async fn hostile_headers_do_nothing() {
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("a.gguf");
    synth("tiny-bloom", &path);
    let good = fs::read(&path).unwrap();

    for seed in 0..400_usize {
        let mut bad = good.clone();
        let at = seed * 97 % 4000;
        bad[at] = bad[at].wrapping_add((seed * 31 % 255) as u8 + 1);
        fs::write(&path, bad).unwrap();
        if let Ok(card) = Card::read(&path) {
            assert!(
                card.name.len() <= 96 && !card.name.contains(char::is_control),
                "seed={seed}"
            );
            let _ = (
                card.shape.needed_bytes(),
                card.shape.fit(&[1 << 30, 1 << 29]),
            );
        }
    }
}

/// The app is killed between a copy and what it remembers of it, or the history is lost: a whole model is there again at
/// the next start, and nothing else is left.
#[tokio::test]
async fn a_copy_that_is_not_remembered_is_taken_in_if_it_is_whole() {
    let (mut phone, server) = idle_phone().await;
    let (_own, path) = own_file("tiny-llama");
    let opened = || Picked::Opened {
        file: fs::File::open(&path).unwrap(),
        name: "mine.gguf".into(),
        address: None,
    };
    let id = phone.import(opened()).await;
    assert_eq!(phone.settled_of(&id).await, HERE);
    let copy = phone.files().pop().unwrap();
    let beside = |name: &str| phone.folder.path().join(name);
    let bytes = fs::read(beside(&copy)).unwrap();
    fs::write(beside("1.copy"), &bytes[..bytes.len() - 1]).unwrap();
    fs::write(beside("2.copy"), &bytes).unwrap();

    phone = phone.restarted(&server).await;
    assert_eq!(
        phone.files(),
        std::slice::from_ref(&copy),
        "one was broken off, one is the same"
    );

    phone.kept = Kept::new();
    phone = phone.restarted(&server).await;
    assert_eq!(phone.files(), [copy]);
    assert_eq!(phone.settled_of(&id).await, HERE);
    assert!(phone.models.get(&id).unwrap().imported);

    phone = phone.restarted(&server).await;
    assert_eq!(phone.models.get(&id).unwrap().availability, HERE);
    phone.models.delete(&id).await.unwrap();
    phone = phone.restarted(&server).await;
    assert_eq!((phone.listing().len(), phone.n_copies()), (1, 0));
}

/// The catalogue's figures for the model that tests have are those of its file; and one tap gets it.
#[tokio::test]
async fn the_small_model_is_what_the_catalogue_says_and_comes_with_one_tap() {
    let Some(cache) = models_folder() else { return };
    let offer = catalogue::offers().remove(0);
    let found = Card::read(&cache.join(&offer.file_name)).unwrap();
    let Card { shape, .. } = offer.card.as_ref();
    assert_eq!(found.file_bytes, offer.card.file_bytes);
    assert_eq!(found.parameters, offer.card.parameters);
    assert_eq!(found.context_tokens, offer.card.context_tokens);
    assert_eq!(found.shape.n_embd, shape.n_embd);
    assert_eq!(found.shape.layer_bytes.len(), shape.layer_bytes.len());
    assert_eq!(
        found.shape.kv_bytes_per_token_and_layer,
        shape.kv_bytes_per_token_and_layer
    );
    let off = found.shape.ends_bytes.abs_diff(shape.ends_bytes);
    assert!(
        off < 1000,
        "ends_bytes is {} in the file",
        found.shape.ends_bytes
    );

    let folder = tempfile::tempdir().unwrap();
    let sources = Sources {
        folder: Some(cache),
        base: None,
    };
    let kept = Kept::new();
    let models = Models::open(Config::new(folder.path().into(), sources), kept.open())
        .await
        .unwrap();
    models.download(&offer.id, FREE).await.unwrap();
    assert_eq!(settled(&models, &offer.id).await, HERE);

    let work = models.work(&offer.id, &Wish::of(1)).await.unwrap();
    assert_eq!(work.manifest.n_layers, 30);
    // Whether it fits was told by the sizes of its layers; placement counts shards.
    let counted = work.manifest.shards().map(|entry| entry.bytes).sum::<u64>();
    assert!(
        counted.abs_diff(offer.card.file_bytes) < offer.card.file_bytes / 20,
        "{counted}"
    );
}

/// Offers of models whose shape gguf-tools knows have its numbers.
#[test]
fn shapes_in_the_catalogue_are_the_published_ones() {
    for (name, preset) in [
        ("Llama 3.2 1B", "llama-3.2-1b"),
        ("Llama 3.2 3B", "llama-3.2-3b"),
    ] {
        let known = gguf_tools::Shape::preset(preset).unwrap();
        let offers = catalogue::offers();
        let offer = offers.iter().find(|offer| offer.card.name == name).unwrap();
        let Card { shape, .. } = offer.card.as_ref();

        assert_eq!(shape.n_embd, known.n_embd, "{name}");
        assert_eq!(shape.layer_bytes.len(), known.n_layers as usize, "{name}");
        let kv = u64::from(known.n_head_kv * known.head_dim) * 2 * 2;
        assert_eq!(shape.kv_bytes_per_token_and_layer, kv, "{name}");
        assert_eq!(offer.card.context_tokens, known.n_ctx_train, "{name}");
        let embedding_bytes = u64::from(known.n_vocab) * u64::from(known.n_embd) * 210 / 256;
        assert!(
            (embedding_bytes..embedding_bytes + 10_000_000).contains(&shape.ends_bytes),
            "{name}"
        );
    }
}

#[test]
fn a_model_is_tight_before_it_is_too_big_and_a_group_takes_more() {
    let shape = shape_of(4 << 30, 32);
    let needed = shape.needed_bytes();
    assert!(needed > 4 << 30);

    assert_eq!(shape.fit(&[needed * 2]), Fit::Fits);
    assert_eq!(shape.fit(&[needed]), Fit::Tight);
    assert_eq!(shape.fit(&[needed - 1]), Fit::TooBig { missing_bytes: 1 });
    assert_eq!(shape.fit(&[2 << 30, 3 << 30, 3 << 30]), Fit::Fits);
    assert!(matches!(
        shape.fit(&[1 << 30, 1 << 30, 1 << 30]),
        Fit::TooBig { .. }
    ));
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (history, _) = History::open(&folder.path().join("history.db"), 1).unwrap();

        Self {
            history,
            _folder: folder,
        }
    }

    fn open(&self) -> History {
        self.history.clone()
    }
}

impl Phone {
    async fn of(server: &Server) -> Self {
        let sources = Sources {
            base: Some(server.url()),
            folder: None,
        };

        Self::at(tempfile::tempdir().unwrap(), offer(&file()), sources).await
    }

    async fn at(folder: TempDir, offer: Offer, sources: Sources) -> Self {
        Self::with(Kept::new(), folder, offer, sources).await
    }

    async fn with(kept: Kept, folder: TempDir, offer: Offer, sources: Sources) -> Self {
        let config = config(folder.path(), offer.clone(), sources);
        let models = Models::open(config, kept.open()).await.unwrap();

        Self {
            folder,
            kept,
            file: file(),
            offer,
            models,
        }
    }

    async fn restarted(self, server: &Server) -> Self {
        let sources = Sources {
            base: Some(server.url()),
            folder: None,
        };
        let Self {
            folder,
            kept,
            offer,
            ..
        } = self;

        Self::with(kept, folder, offer, sources).await
    }

    /// Starts it anew, with its folder elsewhere.
    async fn updated(self, server: &Server) -> Self {
        let elsewhere = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            fs::rename(&path, elsewhere.path().join(path.file_name().unwrap())).unwrap();
        }
        let moved = Self {
            folder: elsewhere,
            ..self
        };

        moved.restarted(server).await
    }

    fn id(&self) -> &ModelId {
        &self.offer.id
    }

    async fn download(&self) -> Result<(), Trouble> {
        self.models.download(self.id(), FREE).await
    }

    async fn import(&self, picked: Picked) -> ModelId {
        let imported = self.models.import(picked).await.unwrap();

        imported.expect("nobody stops it")
    }

    /// Imports a file, and waits until it has been read.
    async fn bring(&self, path: &Path) -> ModelId {
        let id = self.import(Picked::Path(path.into())).await;
        assert_eq!(self.settled_of(&id).await, HERE);

        id
    }

    fn now(&self) -> ModelAvailability {
        self.models.get(self.id()).unwrap().availability
    }

    async fn settled(&self) -> ModelAvailability {
        settled(&self.models, self.id()).await
    }

    async fn settled_of(&self, id: &ModelId) -> ModelAvailability {
        settled(&self.models, id).await
    }

    /// Waits until so many bytes have come.
    async fn has_come(&self, bytes: u64) {
        let come = async {
            loop {
                if let ModelAvailability::Downloading { done_bytes, .. } = self.now()
                    && done_bytes >= bytes
                {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), come)
            .await
            .expect("bytes come");
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.folder
            .path()
            .join(format!("{}.{extension}", self.id().0))
    }

    fn whole(&self) -> PathBuf {
        self.path("gguf")
    }

    fn check_whole(&self) {
        assert!(
            fs::read(self.whole()).unwrap() == self.file,
            "the file is another"
        );
        assert_eq!(self.files(), [format!("{}.gguf", self.id().0)]);
    }

    /// Imports what comes through a pipe, beside everything else.
    #[cfg(unix)]
    fn import_from_pipe(&self) -> (JoinHandle<Result<Option<ModelId>, Trouble>>, PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let picked = Picked::Opened {
            file: fs::File::from(std::os::fd::OwnedFd::from(reader)),
            name: "mine.gguf".into(),
            address: None,
        };
        let models = self.models.clone();

        (
            tokio::spawn(async move { models.import(picked).await }),
            writer,
        )
    }

    /// Waits until so many bytes of something have been copied.
    #[cfg(unix)]
    async fn copying(&self, bytes: u64) -> Listed {
        let is_copied = |listed: &&Listed| {
            let availability = &listed.availability;
            matches!(availability, ModelAvailability::Copying { done_bytes, .. } if *done_bytes == bytes)
        };
        let mut watched = self.models.watch();
        let copying = watched.wait_for(|listing| listing.iter().any(|listed| is_copied(&listed)));
        let listing = timeout(Duration::from_secs(60), copying).await;
        let listing = listing.expect("it begins").unwrap();

        listing.iter().find(is_copied).unwrap().clone()
    }

    fn listing(&self) -> Vec<Listed> {
        self.models.watch().borrow().clone()
    }

    fn n_copies(&self) -> usize {
        let files = self.files().into_iter();

        files.filter(|name| name.ends_with(".copy")).count()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names = names.collect::<Vec<_>>();
        names.sort();

        names
    }
}

/// A phone on which nothing is downloaded.
async fn idle_phone() -> (Phone, Server) {
    let server = Server::start(Vec::new(), Behaviour::Silent).await;

    (Phone::of(&server).await, server)
}

/// Waits until nothing is being done with a model.
async fn settled(models: &Models, id: &ModelId) -> ModelAvailability {
    let mut watched = models.watch();
    let settled = watched.wait_for(|listing| {
        let listed = listing.iter().find(|listed| listed.id == *id).unwrap();
        matches!(
            listed.availability,
            ModelAvailability::Here | ModelAvailability::Failed { .. }
        )
    });
    let listing = timeout(Duration::from_secs(60), settled)
        .await
        .expect("it ends")
        .unwrap();
    let listed = listing.iter().find(|listed| listed.id == *id).unwrap();

    listed.availability.clone()
}

fn file() -> Vec<u8> {
    (0..FILE_BYTES as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

fn offer(file: &[u8]) -> Offer {
    let sha256 = Sha256::digest(file)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();

    Offer {
        id: ModelId(sha256),
        card: Arc::new(Card {
            name: "Tiny".into(),
            maker: "nobody".into(),
            architecture: "llama".into(),
            quantisation: "Q4_0".into(),
            licence: "MIT".into(),
            languages: vec!["en".into()],
            parameters: 1,
            context_tokens: 2048,
            file_bytes: file.len() as u64,
            shape: shape_of(file.len() as u64, 4),
        }),
        file_name: "tiny.gguf".into(),
        url: None,
    }
}

fn shape_of(layers_bytes: u64, n_layers: usize) -> Shape {
    Shape {
        n_embd: 2048,
        ends_bytes: 200 << 20,
        layer_bytes: vec![layers_bytes / n_layers as u64; n_layers],
        kv_bytes_per_token_and_layer: 2048,
    }
}

fn config(folder: &Path, offer: Offer, sources: Sources) -> Config {
    Config {
        folder: folder.into(),
        offers: vec![offer],
        sources,
        limits: Limits::default(),
        patience: Patience {
            silence: Duration::from_secs(2), // longer than a busy machine keeps a process waiting
            first_retry: Duration::from_millis(1),
            tries: 4,
        },
    }
}

/// Makes a model's file as a person has one, in a folder of its own.
fn own_file(preset: &str) -> (TempDir, PathBuf) {
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("mine.gguf");
    synth(preset, &path);

    (own, path)
}

fn synth(preset: &str, path: &Path) {
    let shape = gguf_tools::Shape::preset(preset).unwrap();

    Synth::new(shape, TensorType::Q4_0, 1)
        .write_file(path, &mut |_| {})
        .unwrap();
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();

    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

fn models_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("LINGUALINKED_MODELS").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.join("SmolLM2-135M-Instruct.Q4_1.gguf").is_file());
    if folder.is_none() {
        eprintln!("SKIPPED: there is no SmolLM2-135M-Instruct.Q4_1.gguf (set LINGUALINKED_MODELS)");
    }

    folder
}
