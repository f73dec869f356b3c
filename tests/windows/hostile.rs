//! A stranger whose name would like to be more than a name.

use netshim::{Net, NetOptions};
use serde_json::json;

use crate::TestResult;
use crate::handset::Handset;
use crate::headless;
use crate::people::{Begin, tab, welcome};
use crate::processes::Processes;

const STORY: &str = "hostile";

/// Turns text round, closes the element that it is in, and runs.
const NAME: &str = "\u{202e}</bdi><script>document.title='owned'</script>\u{7}";

pub fn a_hostile_name_only_shows() -> TestResult {
    let net = Net::new(NetOptions::named(["Ann", "Mallory"]))?;
    let folder = tempfile::tempdir()?;
    let mut node = net
        .phone(1)
        .command(headless::program()?.to_str().ok_or("a path")?);
    node.args(["node", "--json", "--name", NAME, "--data"])
        .arg(folder.path().join("mallory"));
    let _mallory = Processes::start(node, &folder.path().join("log"))?;
    let mut ann = Handset::turn_on(net.phone(0), "Ann", STORY, folder.path())?;
    ann.open(&[])?;
    welcome(&ann, Begin::Found)?;

    tab(&ann, "Group")?;
    ann.see("<script>")?;
    ann.photograph("05-nearby")?;
    ann.tap("<script>")?;
    ann.see("Inviting")?;
    ann.photograph("06-code")?;

    let found = ann.run(
        "return [document.title, document.querySelectorAll('bdi script, body > script:not([src])').length, /[\\u202a-\\u202e]/.test(document.body.innerText)]",
        &json!([]),
    )?;
    if found != json!(["LinguaLinked", 0, false]) {
        return Err(format!("{found}").into());
    }
    Ok(())
}
