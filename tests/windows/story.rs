//! Three people who have never seen the app, from the first screen to the last good-bye.

use std::error::Error;
use std::time::Instant;

use netshim::{Net, NetOptions, Profile};

use crate::TestResult;
use crate::handset::Handset;
use crate::headless;
use crate::people::{
    Begin, MODEL, WORK, agree, answer, ask, get_model, give_memory, new_conversation, see_group_of,
    tab, welcome, words, written,
};

const STORY: &str = "three-phones";

/// What is asked. Greedy, this model writes prose to both, without a list or a heading.
const SKY: &str = "Explain in six sentences why the sky is blue.";
const RIVER: &str = "Describe a river in two paragraphs.";
/// Takes long enough to be stopped.
const LONG: &str = "Write a long story about a lighthouse.";

pub fn three_phones_share_a_model() -> TestResult {
    let net = Net::new(NetOptions::named(["Ann", "Ben", "Cem"]).profile(Profile::Wifi))?;
    let folder = tempfile::tempdir()?;
    let turn_on = |i, owner| -> Result<Handset, Box<dyn Error>> {
        let mut phone = Handset::turn_on(net.phone(i), owner, STORY, folder.path())?;
        phone.open(&[])?;
        Ok(phone)
    };
    let (ann, ben) = (turn_on(0, "Ann")?, turn_on(1, "Ben")?);
    let mut cem = turn_on(2, "Cem")?;

    form_a_group(&ann, &ben, &cem)?;
    start_the_model(&ann, &ben, &cem)?;
    let said = chat_on_two_at_once(&ann, &ben, &cem)?;
    stop_an_answer(&cem)?;
    reopen(&mut cem, &said[1])?;
    say_good_bye(&ann, &ben, &cem)?;
    chat_on(&ben, &said[0])
}

/// They find each other; one is invited, the other asks to come in.
fn form_a_group(ann: &Handset, ben: &Handset, cem: &Handset) -> TestResult {
    welcome(ann, Begin::Found)?;
    welcome(ben, Begin::Join)?;
    welcome(cem, Begin::Join)?;
    // Too little for the whole model on any of them; enough without Cem.
    for (phone, steps) in [(ann, 0), (ben, 1), (cem, 0)] {
        give_memory(phone, steps)?;
    }

    let begun = Instant::now();
    for phone in [ann, ben, cem] {
        tab(phone, "Group")?;
    }
    for (phone, others) in [
        (ann, ["Ben", "Cem"]),
        (ben, ["Ann", "Cem"]),
        (cem, ["Ann", "Ben"]),
    ] {
        for other in others {
            phone.see(other)?;
        }
        phone.photograph("05-nearby")?;
    }
    println!("found each other within {:?} of looking", begun.elapsed());

    ann.tap("Ben")?;
    agree(ann, ben, "06-code")?;
    for phone in [ann, ben] {
        see_group_of(phone, 2)?;
        phone.photograph("07-two")?;
    }
    cem.tap("Ann")?;
    agree(cem, ann, "08-code")?;
    for phone in [ann, ben, cem] {
        see_group_of(phone, 3)?;
        phone.photograph("09-three")?;
    }
    Ok(())
}

/// One of them gets the model, and hands out parts of it.
fn start_the_model(ann: &Handset, ben: &Handset, cem: &Handset) -> TestResult {
    get_model(ann)?;
    see_forecast(ann)?;
    ann.tap("Start on 3 phones")?;
    for phone in [ben, cem] {
        tab(phone, "Group")?;
    }

    for phone in [ann, ben, cem] {
        phone.see_within(WORK, MODEL)?;
        phone.photograph("13-preparing")?;
    }
    for phone in [ann, ben, cem] {
        phone.wait_for(WORK, "a model on several phones", |phone| {
            let text = phone.text();
            let ready = ["Ready on 2 phones", "Ready on 3 phones"];
            ready.iter().any(|ready| text.contains(ready)).then_some(())
        })?;
        phone.photograph("14-ready")?;
    }
    Ok(())
}

/// Once the phones have been measured for the model, Ann is told what to expect.
fn see_forecast(ann: &Handset) -> TestResult {
    let (group, alone, without) = ann.wait_for(WORK, "a forecast", |phone| {
        let text = phone.text();
        let without = ["Without Ben", "Without Cem"].into_iter();
        let without = without.filter(|row| text.contains(row));
        Some((
            outlook(&text, "This group, 3 phones")?,
            outlook(&text, "This phone alone")?,
            without
                .map(|row| outlook(&text, row))
                .collect::<Option<Vec<_>>>()?,
        ))
    })?;
    ann.photograph("12-forecast")?;

    if group != Outlook::Runs || alone != Outlook::TooBig || without.is_empty() {
        return Err(format!("together: {group:?}, alone: {alone:?}, without: {without:?}").into());
    }
    Ok(())
}

/// What is to be expected of some phones.
#[derive(Debug, PartialEq, Eq)]
enum Outlook {
    /// So many tokens a second.
    Runs,
    /// So much memory is missing.
    TooBig,
}

/// Reads what a row says; `None` if it is not there, or says that phones are not measured yet.
fn outlook(text: &str, row: &str) -> Option<Outlook> {
    let (_, said) = text.split_once(row)?;
    let mut words = said.split_whitespace();
    let number: f64 = words.next()?.parse().ok()?;
    match (number > 0.0, words.next()?, words.next()?) {
        (true, "tokens/s", _) => Some(Outlook::Runs),
        (true, "MB", "missing") => Some(Outlook::TooBig),
        _ => None,
    }
}

/// Two ask at the same time, and each gets what a group without windows writes.
fn chat_on_two_at_once(
    ann: &Handset,
    ben: &Handset,
    cem: &Handset,
) -> Result<[String; 2], Box<dyn Error>> {
    let expected = [headless::answer(SKY)?, headless::answer(RIVER)?];
    for phone in [ben, cem] {
        new_conversation(phone)?;
    }
    ask(ben, SKY)?;
    ask(cem, RIVER)?;

    for phone in [ben, cem] {
        phone.wait_for(WORK, "the first words", |phone| {
            written(phone).filter(|text| !text.is_empty())
        })?;
    }
    let both = [written(ben), written(cem)];
    for phone in [ann, ben, cem] {
        phone.photograph("15-writing")?;
    }
    if both.iter().any(Option::is_none) {
        return Err(format!("they do not write at the same time: {both:?}").into());
    }

    let answers = [answer(ben)?, answer(cem)?];
    ben.photograph("16-answered")?;
    cem.photograph("16-answered")?;
    for (answer, expected) in answers.iter().zip(&expected) {
        if words(answer) != words(expected) {
            return Err(format!("shown: {answer:?}\nwithout windows: {expected:?}").into());
        }
    }
    Ok(answers)
}

fn stop_an_answer(cem: &Handset) -> TestResult {
    cem.tap("Back")?;
    new_conversation(cem)?;
    ask(cem, LONG)?;
    cem.wait_for(WORK, "some words", |phone| {
        written(phone).filter(|text| text.len() > 20)
    })?;
    cem.tap("Stop the answer")?;
    cem.see("Stopped.")?;
    cem.photograph("17-stopped")?;
    cem.tap("Back")
}

/// The app is closed and opened: it is in its group again, and knows what was said.
fn reopen(cem: &mut Handset, said: &str) -> TestResult {
    cem.close()?;
    cem.open(&[])?;

    cem.see("Chats")?;
    cem.photograph("18-reopened")?;
    cem.tap("Describe a river")?;
    cem.wait("what was said", |phone| {
        let answers = phone.texts("article .prose");
        answers.iter().any(|answer| answer == said).then_some(())
    })?;
    cem.photograph("19-history")?;
    cem.tap("Back")?;
    tab(cem, "Group")?;
    see_group_of(cem, 3)?;
    cem.photograph("20-back-in-the-group")
}

fn say_good_bye(ann: &Handset, ben: &Handset, cem: &Handset) -> TestResult {
    ben.tap("Back")?;
    tab(ben, "Group")?;
    cem.tap("Leave the group")?;
    cem.photograph("21-leave")?;
    cem.tap("Leave now")?;
    cem.see("Join with a code")?;
    for other in ["Ann", "Ben"] {
        cem.see(other)?;
    }
    cem.photograph("22-left")?;

    for phone in [ann, ben] {
        see_group_of(phone, 2)?;
        phone.see_within(WORK, "Ready on 2 phones")?;
        phone.photograph("23-two-go-on")?;
    }
    Ok(())
}

/// Two write what three have written.
fn chat_on(ben: &Handset, said: &str) -> TestResult {
    new_conversation(ben)?;
    ask(ben, SKY)?;
    let answer = answer(ben)?;
    ben.photograph("24-answered-by-two")?;
    if answer != said {
        return Err(format!("three: {said:?}\ntwo: {answer:?}").into());
    }
    Ok(())
}
