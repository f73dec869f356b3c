//! A phone whose system kills the app in the middle of an answer.

use netshim::{Net, NetOptions};

use crate::TestResult;
use crate::handset::Handset;
use crate::people::{Begin, WORK, answer, ask, get_model, new_conversation, welcome, written};

const STORY: &str = "killed";
const FIRST: &str = "Name a fruit.";
const SECOND: &str = "Write a long story about a lighthouse.";

pub fn a_killed_app_keeps_what_was_said() -> TestResult {
    let net = Net::new(NetOptions::named(["Ann"]))?;
    let folder = tempfile::tempdir()?;
    let mut ann = Handset::turn_on(net.phone(0), "Ann", STORY, folder.path())?;
    ann.open(&[])?;
    welcome(&ann, Begin::Alone)?;
    get_model(&ann)?;
    ann.tap("Start on this phone")?;
    ann.see_within(WORK, "Ready on this phone")?;

    new_conversation(&ann)?;
    ask(&ann, FIRST)?;
    let first = answer(&ann)?;
    ask(&ann, SECOND)?;
    let written = ann.wait_for(WORK, "some words", |phone| {
        written(phone).filter(|text| text.len() > 40)
    })?;
    ann.photograph("15-before")?;
    ann.kill()?;
    ann.open(&[])?;

    ann.tap(FIRST)?;
    ann.see(SECOND)?;
    ann.see("Cut short when the app ended.")?;
    ann.photograph("16-after")?;
    let kept = ann.texts("article .prose");
    if kept.first() != Some(&first) {
        return Err(format!("{first:?} has become {kept:?}").into());
    }
    // A crash loses at most what was being written down.
    let begun = kept.get(1).ok_or("nothing is kept of the second answer")?;
    if !begun.starts_with(&written[..20]) {
        return Err(format!("{written:?} has become {begun:?}").into());
    }
    Ok(())
}
