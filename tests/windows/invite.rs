//! A link from one phone to another, opened from outside of the app.

use netshim::{Net, NetOptions};

use crate::TestResult;
use crate::handset::Handset;
use crate::people::{Begin, see_group_of, tab, welcome};

const STORY: &str = "invited";

pub fn a_link_opens_the_app_and_joins() -> TestResult {
    let net = Net::new(NetOptions::named(["Ann", "Ben"]))?;
    let folder = tempfile::tempdir()?;
    let mut ann = Handset::turn_on(net.phone(0), "Ann", STORY, folder.path())?;
    let mut ben = Handset::turn_on(net.phone(1), "Ben", STORY, folder.path())?;
    ann.open(&[])?;
    welcome(&ann, Begin::Found)?;
    tab(&ann, "Group")?;
    ann.tap("Invite with a code")?;
    ann.see("Invite one phone")?;
    ann.photograph("04-invite")?;
    let link = ann.copied("Copy link")?;
    if !link.starts_with("lingualinked://join?") || link.len() >= 300 {
        return Err(format!("no link: {link:?}").into());
    }

    ben.open(&[])?;
    welcome(&ben, Begin::Join)?;
    ben.wait("links open the app", |ben| ben.takes_links().then_some(()))?;
    ben.close()?;
    // Not alone on the command line.
    let data = ben.data().display().to_string();
    ben.open(&["--data", &data, &link])?;
    ben.see("Join this group?")?;
    ben.photograph("05-asked")?;
    ben.tap("Join")?;
    tab(&ben, "Group")?;
    see_group_of(&ben, 2)?;
    see_group_of(&ann, 2)?;
    ben.photograph("06-joined")
}
