//! What one phone alone writes, without the app: what every group has to write, too.

use node::engine_thread::EngineConfig;
use node::event_loop::{Event, Limits};
use node::start::{self, Config};
use node::work::{Cutting, Wish};
use proto::chat::{Answer, Ask, Message, Prompt, Sampling};
use proto::device::Policy;
use proto::ring::Notice;
use tokio::time::timeout;

use crate::phone::{PATIENCE, models_folder};

/// File of the small model.
pub const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Returns what the small model answers, in one piece on one phone.
pub async fn writes(question: &str, max_tokens: u32) -> String {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let config = Config {
        name: "alone".into(),
        keypair: node::identity::load_or_create(folder.path()).expect("a key is made"),
        data_folder: folder.path().to_owned(),
        models: Vec::new(),
        device: None,
        limits: Limits {
            policy: Policy::default(),
            shard_quota_bytes: None,
        },
        listen: Some("/ip4/127.0.0.1/tcp/0".parse().expect("an address")),
        sources: node::discovery::Sources {
            mdns: false,
            dns_sd: false,
        },
        engine: EngineConfig {
            n_threads: 1,
            memory_limit_bytes: None,
            slowdown: 1.0,
        },
    };
    let path = models_folder().join(FILE);
    let (handle, mut events) = start::start(config).await.expect("the node starts");
    let file = node::event_loop::ModelFile {
        path: path.clone(),
        model: None,
        name: "alone".into(),
    };
    handle.set_models(vec![file]).await;
    let cutting = tokio::task::spawn_blocking(move || Cutting::of(&path, 1, |_| {}));
    let cutting = cutting
        .await
        .expect("it does not panic")
        .expect("it can be cut");
    let work = cutting.work(&Wish::of(1)).expect("it can be run");
    handle.run(work, None).await;
    let in_force = async {
        while let Some(event) = events.recv().await {
            if matches!(event, Event::Notice(Notice::InForce { .. })) {
                return;
            }
        }
    };
    timeout(PATIENCE, in_force).await.expect("it runs");

    let (_, mut answers) = handle.ask(ask(question, max_tokens)).await;
    let mut text = String::new();
    while let Some(answer) = timeout(PATIENCE, answers.next()).await.expect("it goes on") {
        match answer {
            Answer::Token { text: more, .. } => text += &more,
            Answer::Done { .. } => break,
            Answer::Queued { .. } | Answer::Reading { .. } => {}
            Answer::Refused(_) | Answer::Failed(_) => panic!("not answered: {answer:?}"),
        }
    }
    handle.stop().await;
    text
}

fn ask(question: &str, max_tokens: u32) -> Ask {
    Ask {
        prompt: Prompt::Chat(vec![Message {
            role: "user".into(),
            content: question.into(),
        }]),
        max_tokens,
        sampling: Sampling::default(),
        stop: Vec::new(),
        ignore_end: false,
        written: Vec::new(),
    }
}
