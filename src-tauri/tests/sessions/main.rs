//! Whole sessions, several in one process, with real nodes on loopback and a real model: the app without its windows.

#![allow(missing_docs, clippy::wildcard_enum_match_arm)]

mod alone;
mod circumstances;
mod phone;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "servers misbehave in tests of models")]
mod support;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use app::api::{
    AnswerEvent, AnswerOutcome, AppState, ImportResult, LeaveWhen, MessageBody, ModelAvailability,
    Notice, Outlook, PairingPurpose, PairingStage, PermissionKind, PermissionStatus, Presence,
    Problem, Question, QuestionWhat, ScanResult, SettingChange, Settings,
};
use app::models::Picked;
use app::session::{Order, Turn};
use gguf_tools::{Synth, TensorType};
use phone::{MEMORY_BYTES, Phone, SEEN, answer, figures, smollm2};

const QUESTION: &str = "Why is the sky blue?";

/// Lets `guest` into the group of `host`, by a link as a camera reads it.
async fn let_in(host: &Phone, guest: &Phone) {
    let (link, state) = invite(host).await;
    let n_members = state.group.as_ref().map_or(1, |group| group.members.len());

    guest.order(Order::UseInvite(link)).await;

    let is_in = |state: &app::api::AppState| {
        let group = state.group.as_ref();
        group.is_some_and(|group| group.members.len() == n_members + 1)
    };
    guest.until("it is in the group", is_in).await;
    let state = host.until("it has let the other in", is_in).await;
    assert_eq!(state.invite, None, "an invite lets one phone in");
}

/// Returns an invite of a phone, and its state as it showed it.
async fn invite(host: &Phone) -> (String, Arc<AppState>) {
    host.order(Order::Invite).await;
    let state = host
        .until("an invite is shown", |state| state.invite.is_some())
        .await;

    (state.invite.as_ref().expect("it is").link.clone(), state)
}

/// Three phones in one group, the first with the model, which has to be shared.
async fn group_of_three() -> [Phone; 3] {
    let memory = Some(MEMORY_BYTES);
    let anna = Phone::new("Anna", memory).await;
    let ben = Phone::new("Ben", memory).await;
    let cleo = Phone::new("Cleo", memory).await;
    let_in(&anna, &ben).await;
    let_in(&anna, &cleo).await;
    anna.run_model().await;

    [anna, ben, cleo]
}

/// Who has a model says what to expect of it; whoever asks sees the same, and may start it from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_another_phone_has_is_forecast_and_started_from_here() {
    let anna = Phone::new("Anna", Some(MEMORY_BYTES)).await;
    let ben = Phone::new("Ben", Some(MEMORY_BYTES)).await;
    let_in(&anna, &ben).await;
    let model = anna.get_model().await;
    let annas = anna.now().me.clone();
    let in_group = ModelAvailability::InGroup {
        phone: annas.clone(),
    };
    ben.until("it is seen that Anna has it", |state| {
        smollm2(state).availability == in_group
    })
    .await;

    let forecasts = ben.session.forecast(model.clone()).await;

    let forecasts = forecasts.expect("Anna's phone says it");
    let Outlook::Runs { stages, .. } = &forecasts.group else {
        panic!("two phones are enough: {forecasts:?}");
    };
    assert_eq!(stages.len(), 2);
    assert!(
        matches!(forecasts.alone, Outlook::DoesNotFit { .. }),
        "Anna's phone alone is not: {:?}",
        forecasts.alone
    );

    ben.order(Order::Start(model)).await;
    let state = ben.until_ready().await;
    let run = state.run.as_ref().expect("it runs");
    assert_eq!(run.head.as_ref(), Some(&annas));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_answers_on_every_phone_what_one_phone_would() {
    let expected = alone::writes(QUESTION, 40).await;
    let [anna, ben, cleo] = group_of_three().await;
    let state = ben.until_ready().await;
    let run = state.run.as_ref().expect("it runs");
    assert!(
        run.stages.len() > 1,
        "the model was to be shared: {:?}",
        run.stages
    );
    assert_eq!(run.model_name, "SmolLM2 135M");
    assert_eq!(run.head.as_ref(), Some(&anna.now().me));

    let (on_ben, on_cleo) = (ben.converse(40).await, cleo.converse(400).await);
    let stream = ben.ask(&on_ben, QUESTION).await;
    let mut other = cleo.ask(&on_cleo, "Tell me a very long story.").await;
    let (message, heard) = stream.end().await;
    let doing = *anna.bench.doing.lock().expect("nobody panics with it");
    assert!(doing.is_in_group, "the system knows: {doing:?}");

    let (text, outcome) = answer(&message);
    assert_eq!(text, expected);
    assert_eq!(*outcome, AnswerOutcome::CutOff);
    let kinds = heard.iter().map(|event| match event {
        AnswerEvent::Text { text } => text.as_str(),
        _ => "",
    });
    assert_eq!(
        kinds.collect::<String>(),
        expected,
        "the screen has heard all of it"
    );
    let figures = figures(&message);
    assert_eq!(figures.completion_tokens, 40);
    assert!(
        figures.phones.len() > 1 && figures.phones[0] == "Anna",
        "{:?}",
        figures.phones
    );

    // One stops, the other was not touched.
    let heard = other.words(20).await;
    cleo.order(Order::StopAnswer(on_cleo.clone())).await;
    let (stopped, _) = other.end().await;
    let (text, outcome) = answer(&stopped);
    assert!(text.starts_with(&heard), "what was heard stays");
    assert_eq!(*outcome, AnswerOutcome::Stopped);

    // What was said is there after a restart, and only where it was said.
    let folder = ben.close().await;
    let ben = Phone::open(folder).await;
    let kept = ben
        .session
        .load_conversation(on_ben)
        .await
        .expect("it is kept");
    assert_eq!(answer(&kept.messages[1]).0, expected);
    assert_eq!(kept.title, QUESTION);
    assert!(anna.now().conversations.is_empty());

    // Back in its group, without a word from anybody; then it leaves.
    ben.until("it is back", |state| {
        state
            .group
            .as_ref()
            .is_some_and(|group| group.members.len() == 3)
    })
    .await;
    ben.order(Order::Leave(LeaveWhen::Now)).await;
    ben.until("it is alone", |state| state.group.is_none())
        .await;
    anna.until("it has left", |state| {
        state
            .group
            .as_ref()
            .is_some_and(|group| group.members.len() == 2)
    })
    .await;
    anna.told(|notice| matches!(notice, Notice::PhoneLeft { name, .. } if name == "Ben"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_goes_on_when_a_phone_is_lost_in_the_middle_of_it() {
    let expected = alone::writes(QUESTION, 60).await;
    let [anna, ben, cleo] = group_of_three().await;
    let state = ben.until_ready().await;
    let stages = &state.run.as_ref().expect("it runs").stages;
    let has_part = |phone: &Phone| stages.iter().any(|stage| stage.phone == phone.now().me);
    let (lost, asks) = if has_part(&ben) {
        (ben, cleo)
    } else {
        assert!(has_part(&cleo), "the model was to be shared: {stages:?}");
        (cleo, ben)
    };
    let conversation = asks.converse(60).await;
    let mut stream = asks.ask(&conversation, QUESTION).await;
    let begun = stream.words(20).await;
    let name = lost.now().name.clone();
    lost.crash();

    let (message, heard) = stream.end().await;

    let (text, outcome) = answer(&message);
    match outcome {
        AnswerOutcome::CutOff => {
            assert_eq!(text, expected);
            // All of it, and by all of them: the phone that was lost wrote the beginning.
            let figures = figures(&message);
            assert_eq!(figures.completion_tokens, 60);
            assert_eq!(figures.phones[0], "Anna");
            assert!(figures.phones.contains(&name), "{:?}", figures.phones);
        }
        // Where two phones have too little memory, they say so.
        AnswerOutcome::Failed {
            problem: Problem::MemoryShort { .. },
        } => {
            assert!(expected.starts_with(text) && text.starts_with(&begun));
        }
        other => panic!("it ended otherwise: {other:?}"),
    }
    let notes = heard
        .iter()
        .filter(|event| matches!(event, AnswerEvent::Notice { .. }));
    assert!(notes.count() > 0, "the conversation says what happened");
    drop(anna);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_phone_alone_chats_edits_and_asks_again() {
    let phone = Phone::new("Dora", None).await;
    let id = phone.converse(12).await;
    let early = Question {
        conversation: id.clone(),
        what: QuestionWhat::New {
            text: QUESTION.into(),
        },
    };
    assert_eq!(phone.session.ask(early).await.err(), Some(Problem::NoModel));
    phone.run_model().await;

    let (first, _) = phone.ask(&id, QUESTION).await.end().await;
    let again = Question {
        conversation: id.clone(),
        what: QuestionWhat::Again,
    };
    let again = phone.session.ask(again).await.expect("it is taken");
    let (second, heard) = phone::Stream(again).end().await;

    assert_eq!(
        answer(&first).0,
        answer(&second).0,
        "greedy answers are the same"
    );
    let AnswerEvent::Begun {
        dropped_from,
        added,
    } = &heard[0]
    else {
        panic!("`begun` is the first");
    };
    assert_eq!(dropped_from.as_ref(), Some(&first.id));
    assert_eq!(added.len(), 1);

    let kept = phone
        .session
        .load_conversation(id.clone())
        .await
        .expect("kept");
    assert_eq!(kept.messages.len(), 2);
    let edit = Question {
        conversation: id.clone(),
        what: QuestionWhat::Edit {
            message: kept.messages[0].id.clone(),
            text: "What is two and two?".into(),
        },
    };
    let edited = phone.session.ask(edit).await.expect("it is taken");
    phone::Stream(edited).end().await;
    let kept = phone
        .session
        .load_conversation(id.clone())
        .await
        .expect("kept");
    assert!(matches!(
        &kept.messages[0].body,
        MessageBody::Question { text, asker } if text == "What is two and two?" && asker == "Dora"
    ));

    // Closed in the middle of an answer: what was heard is kept.
    let story = phone.converse(500).await;
    phone
        .does("it does nothing", |doing| !doing.is_busy())
        .await;
    let mut stream = phone.ask(&story, "Tell me a very long story.").await;
    let heard = stream.words(20).await;
    phone
        .does("it answers, in no group", |doing| {
            doing.answers && !doing.is_in_group
        })
        .await;
    let folder = phone.close().await;
    let (message, _) = stream.end().await;
    let phone = Phone::open(folder).await;
    let kept = phone.session.load_conversation(story).await.expect("kept");
    assert_eq!(answer(&message).1, &AnswerOutcome::AppEnded);
    assert_eq!(kept.messages[1], message);
    assert!(answer(&message).0.starts_with(&heard));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typed_code_lets_in_and_a_wrong_one_is_said_to_be_wrong() {
    let (anna, ben) = (
        Phone::new("Anna", None).await,
        Phone::new("Ben", None).await,
    );
    anna.order(Order::StartGroup).await;
    anna.until("it has founded a group", |state| state.group.is_some())
        .await;
    assert_eq!(anna.now().invite, None);
    anna.order(Order::Invite).await;
    let state = anna
        .until("an invite is shown", |state| state.invite.is_some())
        .await;
    let code = state.invite.as_ref().expect("it is").typed_code.clone();
    assert_eq!(code.replace('-', "").len(), 24);

    let mut wrong = code.clone().into_bytes();
    wrong[0] = if wrong[0] == b'0' { b'1' } else { b'0' };
    let wrong = String::from_utf8(wrong).expect("it is ASCII");
    let order = |text: &str| ben.session.order(Order::UseInvite(text.into()));
    assert_eq!(order(&wrong).await, Err(Problem::Mistyped));
    assert_eq!(order("hello").await, Err(Problem::NotALink));

    assert_eq!(order(&code.to_lowercase()).await, Ok(()));
    let state = ben.until("it is in", |state| state.group.is_some()).await;
    assert!(state.pairings.is_empty(), "{:?}", state.pairings);
    assert!(
        anna.until("so it is", |state| state
            .group
            .as_ref()
            .is_some_and(|g| g.members.len() == 2))
            .await
            .invite
            .is_none()
    );
    let remove = Order::Remove(anna.now().me.clone());
    assert_eq!(ben.session.order(remove).await, Err(Problem::NotLeader));
    anna.order(Order::Remove(ben.now().me.clone())).await;
    ben.until("it was removed", |state| state.group.is_none())
        .await;
    ben.told(|notice| *notice == Notice::YouWereRemoved).await;
    anna.until("it is gone", |state| {
        state.group.as_ref().is_some_and(|g| g.members.len() == 1)
    })
    .await;
    anna.told(|notice| matches!(notice, Notice::Removed { name } if name == "Ben"))
        .await;
}

/// A finger is quicker than the state that shows what it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_settings_that_follow_each_other_closely_are_all_kept() {
    let phone = Phone::new("Ida", None).await;
    let before = phone.now().settings.clone();
    let changes = [
        SettingChange::UseMetered(!before.use_metered),
        SettingChange::BatteryFloor(0.75),
        SettingChange::Visible(!before.visible),
        SettingChange::KeepScreenOn(!before.keep_screen_on),
        SettingChange::OnlyWhileCharging(!before.only_while_charging),
        SettingChange::StorageQuotaBytes(2 << 30),
        SettingChange::MemoryLimitBytes(Some(MEMORY_BYTES)),
        SettingChange::BatteryFloor(0.5),
    ];

    let taken = changes.map(|change| phone.session.order(Order::ChangeSetting(change)));
    let taken = futures::future::join_all(taken).await;

    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    let expected = Settings {
        memory_limit_bytes: Some(MEMORY_BYTES),
        battery_floor: 0.5,
        only_while_charging: !before.only_while_charging,
        use_metered: !before.use_metered,
        storage_quota_bytes: 2 << 30,
        keep_screen_on: !before.keep_screen_on,
        visible: !before.visible,
    };
    phone
        .until("all is changed", |state| state.settings == expected)
        .await;
    let refused = Order::ChangeSetting(SettingChange::BatteryFloor(f64::NAN));
    assert!(phone.session.order(refused).await.is_err());
    let phone = Phone::open(phone.close().await).await;
    assert_eq!(phone.now().settings, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_says_why() {
    let phone = Phone::new("Emil", None).await;
    let nobody = app::api::PhoneId("12D3KooW".into());
    let no_model = app::api::ModelId("00".into());
    let orders = [
        Order::Pair(nobody.clone(), PairingPurpose::Join),
        Order::Start(no_model.clone()),
        Order::Download(no_model),
        Order::UseInvite(String::new()),
        Order::RenameConversation(app::api::ConversationId("none".into()), "x".into()),
    ];

    for order in orders {
        assert!(
            phone.session.order(order.clone()).await.is_err(),
            "{order:?}"
        );
    }
    assert!(phone.session.open_link("file:///etc/passwd").is_err());
    assert!(phone.session.open_link("https://example.org").is_ok());
    assert_eq!(
        phone.session.save_file("a.md".into(), "text".into()).await,
        Ok(true)
    );
    let saved = phone.bench.saved();
    assert_eq!(saved, [("a.md".to_owned(), "text".to_owned())]);
    phone
        .told(|notice| matches!(notice, Notice::FileSaved { .. }))
        .await;
    assert!(
        phone
            .now()
            .pairings
            .iter()
            .all(|pairing| pairing.stage != PairingStage::Compare)
    );
}

/// What is handed to strangers who help says nothing that anybody wrote: not what was said, nor any name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diagnostics_hold_no_words_and_no_names() {
    let phone = Phone::new("Emil", None).await;
    phone.run_model().await;
    let own = tempfile::tempdir().expect("there is room for a folder");
    let path = own.path().join("quokka-notes.gguf");
    write_tiny(&path);
    let imported = phone.session.import(Picked::Path(path)).await;
    assert!(matches!(imported, Ok(ImportResult::Imported { .. })));
    let id = phone.converse(30).await;
    let rename = Order::RenameConversation(id.clone(), "Wombat plans".into());
    phone.order(rename).await;
    let prompt = "Speak like a numbat.".to_owned();
    phone
        .order(Order::Configure(id.clone(), prompt, phone::greedy(400)))
        .await;

    let mut stream = phone.ask(&id, "Where do bilbies sleep?").await;
    let heard = stream.words(30).await;
    let while_writing = phone.session.diagnostics().await.expect("it goes on").text;
    phone.order(Order::StopAnswer(id.clone())).await;
    let (message, _) = stream.end().await;
    let afterwards = phone.session.diagnostics().await.expect("it goes on").text;

    let answered = answer(&message).0.to_owned();
    assert!(answered.starts_with(&heard));
    let secrets = ["Emil", "quokka", "Wombat", "numbat", "bilbies", &answered];
    for text in [while_writing, afterwards] {
        assert!(text.contains("LinguaLinked"), "{text}");
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

/// A model whose file is spoilt after it was taken in: it is found out when it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_does_not_start_is_told_and_what_runs_goes_on() {
    let phone = Phone::new("Frida", None).await;
    let runs = phone::smollm2(&phone.now()).id.clone();
    phone.run_model().await;
    let own = tempfile::tempdir().expect("there is room for a folder");
    let path = own.path().join("mine.gguf");
    write_tiny(&path);
    let imported = phone.session.import(Picked::Path(path.clone())).await;
    let Ok(ImportResult::Imported { model }) = imported else {
        panic!("{imported:?}");
    };
    let found = |state: &app::api::AppState| {
        let mut models = state.models.iter();
        models.find(|found| found.id == model).cloned()
    };
    let state = phone
        .until("it was read", |state| {
            found(state).is_some_and(|model| model.availability == ModelAvailability::Here)
        })
        .await;
    let name = found(&state).expect("it is").name;
    spoil(&path);

    phone.order(Order::Start(model)).await;

    phone
        .told(|notice| matches!(notice, Notice::StartFailed { model, .. } if *model == name))
        .await;
    let state = phone.until_ready().await;
    let run = state.run.as_ref().expect("it goes on");
    assert_eq!(run.model, runs);
}

/// As Android hands over what a cloud provides: through a pipe, which may stop.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_copied_is_shown_coming_and_can_be_stopped() {
    let phone = Phone::new("Jan", None).await;
    let (reader, mut writer) = std::io::pipe().expect("there are pipes");
    let picked = Picked::Opened {
        file: File::from(std::os::fd::OwnedFd::from(reader)),
        name: "mine.gguf".into(),
        address: None,
    };
    let session = phone.session.clone();
    let importing = tokio::spawn(async move { session.import(picked).await });
    writer.write_all(b"GG").expect("it is read");

    let is_copied = |model: &&app::api::Model| {
        let availability = &model.availability;
        matches!(availability, ModelAvailability::Copying { done_bytes, .. } if *done_bytes == 2)
    };
    let state = phone
        .until("it is copied", |state| {
            state.models.iter().any(|model| is_copied(&model))
        })
        .await;
    let copied = state.models.iter().find(is_copied).expect("it is");
    assert_eq!(copied.name, "mine.gguf");
    phone.does("a model comes", |doing| doing.fetches).await;
    phone.order(Order::DeleteModel(copied.id.clone())).await;

    let imported = importing.await.expect("it does not panic");
    assert_eq!(imported, Ok(ImportResult::Cancelled));
    let is_own = |model: &app::api::Model| model.imported;
    phone
        .until("it is gone", |state| !state.models.iter().any(is_own))
        .await;
    let files = std::fs::read_dir(phone.folder.path().join("models")).expect("there is one");
    assert_eq!(files.count(), 0, "nothing is left");
}

/// As Android hands a file over: open, with an address that only the system opens.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_a_path_is_opened_again_after_a_restart() {
    let phone = Phone::new("Hedi", None).await;
    let own = tempfile::tempdir().expect("there is room for a folder");
    let path = own.path().join("mine.gguf");
    write_tiny(&path);
    let picked = Picked::Opened {
        file: File::open(&path).expect("it is there"),
        name: "mine.gguf".into(),
        address: Some(phone::address_of(&path)),
    };
    let imported = phone.session.import(picked).await;
    let Ok(ImportResult::Imported { model }) = imported else {
        panic!("{imported:?}");
    };
    let is_here = |state: &app::api::AppState| {
        let mut models = state.models.iter();
        let found = models.find(|found| found.id == model);
        found.is_some_and(|found| found.availability == ModelAvailability::Here)
    };
    phone.until("it was read", is_here).await;

    let phone = Phone::open(phone.close().await).await;

    phone.until("it is open again", is_here).await;
    let folder = phone.folder.path().join("models");
    let files = std::fs::read_dir(folder).expect("there is one").count();
    assert_eq!(files, 0, "nothing was copied");
}

fn write_tiny(path: &Path) {
    let shape = gguf_tools::Shape::preset("tiny-llama").expect("there is one");

    Synth::new(shape, TensorType::Q4_0, 1)
        .write_file(path, &mut |_| {})
        .expect("it is written");
}

/// Writes zeros over a file's beginning, and leaves its length and its time as they were.
fn spoil(path: &Path) {
    let mut file = File::options().write(true).open(path).expect("it opens");
    let modified = file.metadata().and_then(|found| found.modified());
    file.write_all(&[0; 64]).expect("it is written");
    file.set_modified(modified.expect("the system says"))
        .expect("it is set");
}

/// It happens before there is a screen: who listens first hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_that_were_damaged_are_said_to_be_set_aside() {
    let phone = Phone::new("Gina", None).await;
    phone.converse(1).await;
    let folder = phone.close().await;
    let history = folder.path().join("history.db");
    assert!(!folder.path().join("history.db-wal").exists());
    std::fs::write(&history, "no database at all, but words").expect("it is written");

    let phone = Phone::open(folder).await;

    let begins = history.display().to_string() + "-damaged-";
    phone
        .told(|notice| {
            matches!(notice, Notice::HistorySetAside { path }
                if path.starts_with(&begins) && Path::new(path).is_file())
        })
        .await;
    assert!(phone.now().conversations.is_empty());
    phone.converse(1).await;
}

/// Any web page can open a link: it asks a person, and does nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_opened_joins_only_after_a_yes() {
    let (anna, ben) = (
        Phone::new("Anna", None).await,
        Phone::new("Ben", None).await,
    );
    anna.order(Order::Invite).await;
    let state = anna
        .until("an invite is shown", |state| state.invite.is_some())
        .await;
    let link = state.invite.as_ref().expect("it is").link.clone();
    ben.order(Order::StartGroup).await;
    ben.until("it has founded a group", |state| state.group.is_some())
        .await;

    for text in ["lingualinked://join?v=1", "lingualinked://", &link] {
        ben.session.turn(Turn::Opened(text.into()));
    }
    let asked = ben
        .until("it asks", |state| state.opened_invite.is_some())
        .await;
    assert_eq!(asked.opened_invite.as_ref(), Some(&link));
    ben.order(Order::PutAwayInvite).await;
    let state = ben
        .until("it asks no more", |state| state.opened_invite.is_none())
        .await;
    let group = state.group.as_ref().expect("it is in its own group");
    assert_eq!(group.leader, Some(state.me.clone()));
    assert!(state.pairings.is_empty(), "{:?}", state.pairings);

    ben.session.turn(Turn::Opened(link.clone()));
    ben.until("it asks again", |state| state.opened_invite.is_some())
        .await;
    ben.order(Order::UseInvite(link)).await;
    let is_in = |state: &app::api::AppState| {
        let group = state.group.as_ref();
        group.is_some_and(|group| group.members.len() == 2)
    };
    let state = ben.until("it is in the group", is_in).await;
    assert_eq!(state.opened_invite, None);
}

/// A phone that stops apps which are put away: once this one says that it may be stopped, the others know; and it is back
/// without a word from anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_put_away_leaves_its_group_until_it_is_back() {
    let (anna, ben) = (
        Phone::new("Anna", None).await,
        Phone::new("Ben", None).await,
    );
    let_in(&anna, &ben).await;
    let bens = ben.now().me.clone();
    let presence = |state: &app::api::AppState| {
        let group = state.group.as_ref().expect("Anna is in a group");
        let member = group.members.iter().find(|member| member.id == bens);
        member.expect("Ben keeps his place").presence
    };
    anna.until("Ben is here", |state| presence(state) == Presence::Here)
        .await;

    ben.session.suspend().await;
    anna.until("Ben is gone", |state| presence(state) == Presence::Lost)
        .await;
    ben.session.turn(Turn::Resumed);
    anna.until("Ben is back", |state| presence(state) == Presence::Here)
        .await;

    // What a phone hears that was never put away changes nothing.
    ben.session.turn(Turn::Resumed);
    ben.until("it is in its group", |state| state.group.is_some())
        .await;
}

/// The camera is used only when a person was asked, and it is said why nothing was seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_asks_for_the_camera_first_and_says_what_stands_in_its_way() {
    let phone = Phone::new("Anna", None).await;
    let scan = async |camera: Option<PermissionStatus>| {
        *phone.bench.camera.lock().expect("nobody panics with it") = camera;
        let seen = phone.session.scan().await;
        let mut asked = phone.bench.asked.lock().expect("nobody panics with it");
        (seen, std::mem::take(&mut *asked))
    };
    let text = SEEN.to_owned();
    let camera = vec![PermissionKind::Camera];

    assert_eq!(scan(None).await, (Ok(ScanResult::NoCamera), vec![]));
    for (said, seen) in [
        (PermissionStatus::Granted, ScanResult::Scanned { text }),
        (PermissionStatus::Denied, ScanResult::Denied),
        // Somebody said no once.
        (PermissionStatus::NotAsked, ScanResult::Denied),
    ] {
        assert_eq!(
            scan(Some(said)).await,
            (Ok(seen), camera.clone()),
            "{said:?}"
        );
    }
}
