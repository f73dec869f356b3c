//! What the window may do stands in several places, which must say the same.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The policy that the screens were tested under is the one that the window has.
#[test]
fn the_window_has_the_policy_of_the_screens() {
    let text = read("../ui/csp.ts");
    let list = text.split_once("CSP = [").expect("it has a list").1;
    let list = list.split_once(']').expect("which ends").0;
    let parts = list.split('"').skip(1).step_by(2).collect::<Vec<_>>();

    assert!(parts.contains(&"default-src 'none'"), "{parts:?}");
    assert_eq!(config()["app"]["security"]["csp"], parts.join("; "));
}

/// Every command of the screens is one of the program's, may be asked for, and nothing else may.
#[test]
fn the_window_may_do_what_the_screens_ask_for_and_nothing_else() {
    let screens = read("../ui/src/backend/tauri.ts");
    let screens = names_after(&screens, &["call<", "subscribe("]);
    let build = read("build.rs");
    let build = build.split_once("&[\n").expect("it has a list").1;
    let build = quoted(build.split_once("];").expect("which ends").0);
    let capability: Value = serde_json::from_str(&read("capabilities/main.json")).expect("JSON");
    let allowed = capability["permissions"].as_array().expect("a list").iter();
    let allowed = allowed.map(|name| name.as_str().expect("a name"));
    let allowed = allowed.map(|name| {
        let name = name
            .strip_prefix("allow-")
            .expect("nothing but our own commands");
        name.replace('-', "_")
    });

    assert_eq!(screens, build);
    assert_eq!(allowed.collect::<BTreeSet<_>>(), build);
    assert_eq!(capability["windows"], serde_json::json!(["main"]));
    assert!(
        capability.get("remote").is_none(),
        "no page of anybody else's"
    );
    assert_eq!(
        config()["app"]["security"]["capabilities"],
        serde_json::json!(["main"])
    );
}

/// Nothing is shown that is not in the program.
#[test]
fn the_screens_are_in_the_program() {
    let build = &config()["build"];

    assert_eq!(build["frontendDist"], "../ui/dist");
    assert!(build.get("devUrl").is_none());
    assert!(config()["app"].get("withGlobalTauri").is_none());
}

fn config() -> Value {
    serde_json::from_str(&read("tauri.conf.json")).expect("JSON")
}

/// Returns the first names in quotes after any of these words.
fn names_after(text: &str, words: &[&str]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for word in words {
        for rest in text.split(word).skip(1) {
            let line = rest.lines().next().unwrap_or_default();
            let Some((before, rest)) = line.split_once('"') else {
                // A long call has its name on the next line.
                let next = rest.lines().nth(1).unwrap_or_default().trim();
                names.extend(
                    next.strip_prefix('"')
                        .and_then(|n| n.split('"').next())
                        .map(String::from),
                );
                continue;
            };
            if before.ends_with('(') || before.is_empty() {
                names.extend(rest.split('"').next().map(String::from));
            }
        }
    }

    names
}

fn quoted(text: &str) -> BTreeSet<String> {
    text.split('"')
        .skip(1)
        .step_by(2)
        .map(String::from)
        .collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);

    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
