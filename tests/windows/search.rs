//! Two phones in a Wi-Fi that drops what is called out to all: neither hears the other, until somebody has every address
//! knocked at.

use netshim::{Net, NetOptions};

use crate::TestResult;
use crate::handset::Handset;
use crate::people::{Begin, tab, welcome};

const STORY: &str = "unheard";

pub fn who_is_not_heard_is_found_by_searching_harder() -> TestResult {
    let net = Net::new(NetOptions::named(["Ann", "Ben"]))?;
    for phone in 0..2 {
        net.block_multicast(phone, true)?;
    }
    let folder = tempfile::tempdir()?;
    let mut ann = Handset::turn_on(net.phone(0), "Ann", STORY, folder.path())?;
    let mut ben = Handset::turn_on(net.phone(1), "Ben", STORY, folder.path())?;
    ann.open(&[])?;
    ben.open(&[])?;
    welcome(&ann, Begin::Found)?;
    welcome(&ben, Begin::Join)?;
    // What a phone says of itself to those that connect is what it was called when it was opened.
    ann.close()?;
    ann.open(&[])?;

    for phone in [&ann, &ben] {
        tab(phone, "Group")?;
    }
    ben.see("Search harder")?;
    ben.photograph("04-nobody")?;
    if ben.text().contains("Ann") {
        return Err("nobody was asked to knock".into());
    }

    ben.tap("Search harder")?;
    ben.see("Ann")?;
    ben.photograph("05-found")
}
