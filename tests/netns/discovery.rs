//! Phones find each other in every way that there is, alone and beside other programs.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netshim::{INTERFACE, Net, NetOptions, Phone, Profile};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::group::message::VERSION;

use crate::looker::{Looker, is_sighting};
use crate::{Test, TestResult};

/// What this file shows.
pub const TESTS: &[Test] = &[
    (
        "five_phones_find_each_other_by_libp2p_mdns",
        five_phones_by_mdns,
        &[],
    ),
    (
        "five_phones_find_each_other_by_dns_sd",
        five_phones_by_dns_sd,
        &[],
    ),
    (
        "a_phone_that_comes_later_is_found_as_fast",
        a_late_phone,
        &[],
    ),
    (
        "a_phone_that_ends_is_missed_and_one_that_dies_too",
        phones_that_go,
        &[],
    ),
    (
        "without_multicast_a_phone_is_reached_by_address",
        by_address,
        &[],
    ),
    (
        "without_multicast_a_phone_is_found_by_knocking",
        by_knocking,
        &[],
    ),
    (
        "a_phone_whose_address_changes_says_so",
        another_address,
        &[],
    ),
    (
        "phones_of_one_machine_find_each_other_on_loopback",
        on_loopback,
        &[],
    ),
    (
        "avahi_sees_our_service_and_we_see_one_that_it_publishes",
        beside_avahi,
        &[
            "avahi-daemon",
            "avahi-browse",
            "avahi-publish",
            "dbus-daemon",
        ],
    ),
];

/// The promise: five phones within three seconds.
const PROMISED: Duration = Duration::from_secs(3);

/// How long what has no promise may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Switches off everything but libp2p's mDNS.
const MDNS_ONLY: &[&str] = &["--no-dns-sd"];

/// Switches off everything but DNS-SD.
const DNS_SD_ONLY: &[&str] = &["--no-mdns"];

fn five_phones_by_mdns() -> TestResult {
    five_phones(MDNS_ONLY)
}

fn five_phones_by_dns_sd() -> TestResult {
    five_phones(DNS_SD_ONLY)
}

/// Each phone counts from its own start; all start at once.
fn five_phones(options: &[&str]) -> TestResult {
    let net = Net::new(NetOptions::phones(5).profile(Profile::Wifi))?;
    let start = |(i, phone)| Looker::start(phone, &name(i), options);
    let lookers: Result<Vec<_>, _> = net.phones().iter().enumerate().map(start).collect();
    let mut lookers = lookers?;

    let mut took_ms = Vec::new();
    for (i, looker) in lookers.iter_mut().enumerate() {
        for other in (0..5).filter(|&other| other != i) {
            let line = looker.sees(&name(other), PATIENCE)?;
            assert_eq!(line["version"], VERSION);
            took_ms.push(line["after_ms"].as_u64().ok_or("a time")?);
        }
    }

    took_ms.sort_unstable();
    let (median, last) = (took_ms[took_ms.len() / 2], took_ms[took_ms.len() - 1]);
    println!("{options:?}: found after {median} ms (median), {last} ms (last of 20)");
    assert!(Duration::from_millis(last) <= PROMISED, "{took_ms:?}");
    Ok(())
}

fn a_late_phone() -> TestResult {
    for options in [MDNS_ONLY, DNS_SD_ONLY] {
        let net = Net::new(NetOptions::phones(2).profile(Profile::Wifi))?;
        let mut early = Looker::start(net.phone(0), "Early", options)?;
        early.address()?;
        // Past the first questions, which come quickly one after the other.
        thread::sleep(Duration::from_secs(6));

        let started = Instant::now();
        let mut late = Looker::start(net.phone(1), "Late", options)?;
        late.sees("Early", PATIENCE)?;
        let found = started.elapsed();

        println!(
            "{options:?}: a late phone finds another after {} ms",
            found.as_millis()
        );
        assert!(found <= PROMISED, "{found:?}");
        // By libp2p's mDNS the other one hears of it when it asks again.
        early.sees("Late", PATIENCE)?;
    }
    Ok(())
}

fn phones_that_go() -> TestResult {
    let net = Net::new(NetOptions::phones(3).profile(Profile::Loopback))?;
    let mut stays = Looker::start(net.phone(0), "Stays", &[])?;
    let mut ends = Looker::start(net.phone(1), "Ends", &[])?;
    let dies = Looker::start(net.phone(2), "Dies", &[])?;
    stays.sees("Ends", PATIENCE)?;
    stays.sees("Dies", PATIENCE)?;
    let ids = [ends.sees("Stays", PATIENCE)?["phone"].clone()];
    assert!(ids[0].is_string());

    kill(pid(ends.id()), Signal::SIGINT)?;
    drop(dies);

    for name in ["Ends", "Dies"] {
        let phone = stays.sees(name, PATIENCE)?["phone"].clone();
        let line = stays.wait(Duration::from_secs(90), "the end of a phone", |line| {
            line["event"] == "unsighted" && line["phone"] == phone
        })?;
        println!("{name}: missed {} ms after the start", line["after_ms"]);
    }
    Ok(())
}

fn by_address() -> TestResult {
    let (_net, mut alone, mut other) = without_multicast()?;
    let address = other.address()?;

    alone.does_not_see("Other", PROMISED)?;
    drop(alone);
    let mut alone = Looker::start(_net.phone(1), "Alone", &["--dial", &address])?;

    alone.wait(PATIENCE, "connection", |line| line["event"] == "connected")?;
    alone.sees("Other", PATIENCE)?;
    other.sees("Alone", PATIENCE)?;
    Ok(())
}

fn by_knocking() -> TestResult {
    let (net, alone, mut other) = without_multicast()?;
    drop(alone);

    let started = Instant::now();
    let mut alone = Looker::start(net.phone(1), "Alone", &["--probe"])?;
    alone.sees("Other", Duration::from_secs(40))?;
    other.sees("Alone", PATIENCE)?;

    println!(
        "found by knocking after {} ms",
        started.elapsed().as_millis()
    );
    Ok(())
}

fn another_address() -> TestResult {
    for options in [MDNS_ONLY, DNS_SD_ONLY] {
        let net = Net::new(NetOptions::phones(2).profile(Profile::Loopback))?;
        let mut moves = Looker::start(net.phone(0), "Moves", options)?;
        let mut stays = Looker::start(net.phone(1), "Stays", options)?;
        moves.address()?;
        stays.sees("Moves", PATIENCE)?;

        moves.forget();
        let old = format!("{}/24", net.phone(0).ipv4());
        let phone = net.phone(0);
        ip(phone, &["addr", "del", &old, "dev", INTERFACE])?;
        ip(phone, &["addr", "add", "10.77.0.99/24", "dev", INTERFACE])?;
        ip(phone, &["route", "add", "default", "via", "10.77.0.254"])?;

        moves.wait(PATIENCE, "new address", |line| {
            let addresses = line["addresses"].to_string();
            line["event"] == "addresses" && addresses.contains("10.77.0.99")
        })?;
        // Who comes now finds it there, and only there is it to be found.
        let mut comes = Looker::start(net.phone(1), "Comes", options)?;
        let line = comes.sees("Moves", PATIENCE)?;
        assert!(
            line["addresses"].to_string().contains("10.77.0.99"),
            "{line}"
        );
    }
    Ok(())
}

/// As the demo's phones are, with a network beside and without.
fn on_loopback() -> TestResult {
    let net = Net::new(NetOptions::phones(1).profile(Profile::Loopback))?;
    let phone = net.phone(0);

    for listen in [&["--listen", "/ip4/127.0.0.1/tcp/0"][..], &[]] {
        for online in [true, false] {
            let state = if online { "up" } else { "down" };
            ip(phone, &["link", "set", INTERFACE, state])?;

            let mut ann = Looker::start(phone, "Ann", listen)?;
            let mut bob = Looker::start(phone, "Bob", listen)?;
            let sighting = ann.sees("Bob", PATIENCE)?;
            bob.sees("Ann", PATIENCE)?;

            let address = bob.address()?;
            println!(
                "listening {listen:?}, network {state}: found after {} ms at {address}",
                sighting["after_ms"]
            );
            assert!(sighting["addresses"].to_string().contains(&address));
        }
    }
    Ok(())
}

fn beside_avahi() -> TestResult {
    let net = Net::new(NetOptions::phones(2).profile(Profile::Loopback))?;
    let mut ours = Looker::start(net.phone(0), "Sam's phone", DNS_SD_ONLY)?;
    ours.address()?;
    let avahi = Avahi::start(net.phone(1))?;

    let browsed = avahi.until(
        "Sam's phone",
        &["avahi-browse", "-rpt", "_lingualinked._tcp"],
    )?;
    assert!(browsed.contains("10.77.0.1;27077"), "{browsed}");

    let id = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf";
    let publish = ["-s", id, "_lingualinked._tcp", "4242"];
    let txt = [&format!("id={id}"), "v=1", "n=Avahi's phone", "g=-"];
    let _publishing = Ended(
        avahi
            .command("avahi-publish")
            .args(publish)
            .args(txt)
            .spawn()?,
    );
    let line = ours.sees("Avahi's phone", PATIENCE)?;
    assert_eq!(line["phone"], id);
    assert!(
        line["addresses"]
            .to_string()
            .contains("/ip4/10.77.0.2/tcp/4242"),
        "{line}"
    );
    assert!(is_sighting(&line, "Avahi's phone"));
    Ok(())
}

/// Two phones whose network drops multicast; both look all the same.
fn without_multicast() -> Result<(Net, Looker, Looker), Box<dyn Error>> {
    let net = Net::new(NetOptions::phones(2).profile(Profile::Wifi))?;
    net.block_multicast(0, true)?;
    net.block_multicast(1, true)?;
    let other = Looker::start(net.phone(0), "Other", &[])?;
    let alone = Looker::start(net.phone(1), "Alone", &[])?;

    Ok((net, alone, other))
}

fn name(i: usize) -> String {
    format!("Phone {i}")
}

fn ip(phone: &Phone, args: &[&str]) -> TestResult {
    let status = phone.command("ip").args(args).status()?;

    if status.success() {
        Ok(())
    } else {
        Err(format!("ip {args:?}: {status}").into())
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id is an i32"))
}

/// A process that ends when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// avahi in a phone, with a message bus of its own.
struct Avahi<'a> {
    phone: &'a Phone,
    folder: tempfile::TempDir,
    _processes: Vec<Ended>,
}

impl<'a> Avahi<'a> {
    fn start(phone: &'a Phone) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let mut avahi = Self {
            phone,
            folder,
            _processes: Vec::new(),
        };
        let config = avahi.folder.path().join("avahi.conf");
        std::fs::write(&config, "[server]\nhost-name=foreign\n")?;
        let address = avahi.bus();

        let mut bus = avahi.command("dbus-daemon");
        bus.stderr(Stdio::null()).args([
            "--session",
            "--nofork",
            "--nopidfile",
            "--address",
            &address,
        ]);
        avahi._processes.push(Ended(bus.spawn()?));
        wait_for_file(&avahi.folder.path().join("bus"))?;
        let mut daemon = avahi.command("/usr/sbin/avahi-daemon");
        daemon
            .args(["--no-drop-root", "--no-rlimits", "--no-chroot", "--file"])
            .arg(config);
        avahi._processes.push(Ended(daemon.spawn()?));

        Ok(avahi)
    }

    fn bus(&self) -> String {
        format!("unix:path={}", self.folder.path().join("bus").display())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.phone.command(program);
        command
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Runs a command again and again until it has put out `wanted`.
    fn until(&self, wanted: &str, command: &[&str]) -> Result<String, Box<dyn Error>> {
        let deadline = Instant::now() + PATIENCE;

        loop {
            let mut run = self.command(command[0]);
            let output = run.args(&command[1..]).stdout(Stdio::piped()).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains(wanted) {
                return Ok(text);
            }
            if Instant::now() > deadline {
                let errors = String::from_utf8_lossy(&output.stderr);
                return Err(format!("no {wanted} in {text}{errors}").into());
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn wait_for_file(path: &Path) -> TestResult {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        if Instant::now() > deadline {
            return Err(format!("no {}", path.display()).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
