//! What people do in every story, whatever comes of it.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use crate::TestResult;
use crate::handset::Handset;

/// What the small model is called on the screen, and its file.
pub const MODEL: &str = "SmolLM2 135M";
pub const MODEL_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// How long a model may take to be cut, handed out, measured and loaded, or an answer to begin or go on: with three phones
/// on two cores, on which others may be working, too.
pub const WORK: Duration = Duration::from_secs(180);

/// How people begin on the welcome screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// A group of one, which others join.
    Found,
    /// Somebody else's group.
    Join,
    /// Alone.
    Alone,
}

/// The folder with the small model.
pub fn models() -> PathBuf {
    let folder = std::env::var_os("LINGUALINKED_MODELS").map(PathBuf::from);
    folder.unwrap_or_else(|| {
        let cache = dirs::cache_dir().expect("there is a home folder");
        cache.join("lingualinked/models")
    })
}

/// Goes through the welcome screen.
pub fn welcome(phone: &Handset, begin: Begin) -> TestResult {
    phone.see("One model, a few phones, no cloud")?;
    phone.photograph("01-welcome")?;
    phone.fill("Name of this phone", phone.owner)?;
    phone.photograph("02-named")?;
    phone.tap("Continue")?;

    phone.see("How shall we begin?")?;
    phone.photograph("03-begin")?;
    match begin {
        Begin::Found => phone.tap("Start a group"),
        Begin::Join => phone.tap("Join a group"),
        Begin::Alone => phone.tap("Just chat here"),
    }
}

/// Goes to one of the four tabs.
pub fn tab(phone: &Handset, name: &str) -> TestResult {
    phone.tap(name)?;
    phone.wait(&format!("the tab `{name}`"), |phone| {
        phone.texts("h1").iter().any(|h1| h1 == name).then_some(())
    })
}

/// Lets a phone give so much memory, by a slider that begins at 200 MB and moves by 100.
pub fn give_memory(phone: &Handset, steps: usize) -> TestResult {
    tab(phone, "Settings")?;
    phone.tap("What this phone gives")?;
    phone.tap("As much as is safe")?;
    phone.slide_down("At most")?;
    phone.see("200 MB")?;
    phone.slide_up("At most", steps)?;
    phone.see(&format!("{} MB", 200 + 100 * steps))?;
    phone.photograph("04-limits")?;
    phone.tap("Back")
}

/// Two people compare the code that both phones show, and say yes.
pub fn agree(one: &Handset, other: &Handset, step: &str) -> TestResult {
    let codes = [code(one)?, code(other)?];
    one.photograph(step)?;
    other.photograph(step)?;
    if codes[0] != codes[1] {
        return Err(format!("the codes differ: {codes:?}").into());
    }

    one.tap("Yes, the same")?;
    other.tap("Yes, the same")
}

fn code(phone: &Handset) -> Result<String, Box<dyn Error>> {
    phone.wait("a code", |phone| {
        let lines = phone.texts("[role=dialog] p");
        lines.into_iter().find(|line| is_code(line))
    })
}

/// Six digits in two groups.
fn is_code(line: &str) -> bool {
    let digits = |group: &str| group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit());
    line.split_once(' ')
        .is_some_and(|(first, second)| digits(first) && digits(second))
}

/// Waits until a group has so many phones.
pub fn see_group_of(phone: &Handset, n_phones: usize) -> TestResult {
    phone.see(&format!("{n_phones} phones"))
}

/// Gets the small model, on the phone that is tapped.
pub fn get_model(phone: &Handset) -> TestResult {
    tab(phone, "Models")?;
    phone.photograph("10-models")?;
    phone.tap(MODEL)?;
    phone.see("What to expect")?;
    phone.photograph("11-model")?;
    phone.tap("Download, 98 MB")?;
    phone.wait_for(WORK, "a model that can be started", |phone| {
        phone.text().contains("Start on ").then_some(())
    })
}

/// Gets the small model and begins to chat, with one tap on the first screen; and goes back from there.
pub fn get_chatting(phone: &Handset) -> TestResult {
    phone.photograph("10-one-tap")?;
    phone.tap("Get SmolLM2 135M, 98 MB, and chat")?;
    phone.see_within(WORK, "What would you like to know?")?;
    phone.photograph("11-chat")?;
    phone.tap("Back")
}

/// Begins a conversation in which chance plays no part.
pub fn new_conversation(phone: &Handset) -> TestResult {
    tab(phone, "Chats")?;
    phone.tap("New conversation")?;
    phone.see("What would you like to know?")?;
    phone.tap("Menu of this conversation")?;
    phone.tap("How it answers")?;
    phone.slide_down("Liveliness")?;
    phone.slide_down("Avoids repeating itself")?;
    phone.tap("Save")?;
    phone.wait("no sheet", |phone| {
        phone.texts("[role=dialog]").is_empty().then_some(())
    })
}

/// Asks.
pub fn ask(phone: &Handset, question: &str) -> TestResult {
    phone.fill("Ask something", question)?;
    phone.tap("Send")
}

/// What has been written of the answer under way; `None` if none is.
pub fn written(phone: &Handset) -> Option<String> {
    phone.texts("article[aria-busy=true] .prose").pop()
}

/// Waits until the answer has been written, as long as it goes on, and returns it.
pub fn answer(phone: &Handset) -> Result<String, Box<dyn Error>> {
    let mut so_far = String::new();
    loop {
        let (text, is_whole) = phone.wait_for(WORK, "next word of an answer", |phone| {
            // In this order: what is read once it is whole is whole.
            let is_whole = phone.can_tap("Answer again");
            let text = phone.texts("article .prose").pop().unwrap_or_default();
            (is_whole || text != so_far).then_some((text, is_whole))
        })?;
        if is_whole {
            return Ok(text);
        }
        so_far = text;
    }
}

/// Words in a row, whatever lies between them: the screen makes paragraphs of empty lines.
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
