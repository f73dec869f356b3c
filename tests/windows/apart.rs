//! Two phones in a Wi-Fi that keeps its clients apart, as those of hotels do: they hear of each other, and nothing more,
//! until it lets them.

use netshim::{Net, NetOptions};

use crate::TestResult;
use crate::handset::Handset;
use crate::people::{Begin, WORK, agree, see_group_of, tab, welcome};

const STORY: &str = "apart";

/// What is said of such a network.
const APART: &str = "This Wi-Fi seems to keep phones apart";

pub fn a_wifi_that_keeps_phones_apart_is_named() -> TestResult {
    let net = Net::new(NetOptions::named(["Ann", "Ben"]))?;
    net.block_unicast(0, true)?;
    let folder = tempfile::tempdir()?;
    let mut ann = Handset::turn_on(net.phone(0), "Ann", STORY, folder.path())?;
    let mut ben = Handset::turn_on(net.phone(1), "Ben", STORY, folder.path())?;
    ann.open(&[])?;
    ben.open(&[])?;
    welcome(&ann, Begin::Found)?;
    welcome(&ben, Begin::Join)?;

    for phone in [&ann, &ben] {
        tab(phone, "Group")?;
    }
    ben.see("Ann")?;
    ben.photograph("04-nearby")?;
    ben.tap("Ann")?;
    ben.see_within(WORK, APART)?;
    ben.photograph("05-apart")?;

    // Where it lets them after all, nobody has to tap again, and nothing is said of the network any more.
    net.block_unicast(0, false)?;
    agree(&ben, &ann, "06-code")?;
    for phone in [&ann, &ben] {
        see_group_of(phone, 2)?;
        phone.photograph("07-two")?;
    }
    match ben.text().contains(APART) {
        true => Err("it is said still".into()),
        false => Ok(()),
    }
}
