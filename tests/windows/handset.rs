//! A phone with somebody at it: a namespace, a display, the app in a window, and the eyes and hands of a person.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use netshim::Phone;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::TestResult;
use crate::people::models;
use crate::processes::{Processes, running_in};
use crate::shots;
use crate::webdriver::{Driver, Element, Session};

/// The app under test.
const APP: &str = env!("CARGO_BIN_EXE_lingualinked-app");

/// A phone's screen, which the window fills: there is nothing that could give it a frame.
const WIDTH: u32 = 390;
const HEIGHT: u32 = 844;

/// Where `tauri-driver` listens; behind it, on the next port, `WebKitWebDriver`.
const FIRST_PORT: u16 = 4444;

/// How long a person waits for what should come at once; nothing here takes 5 s on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a person looks again.
const GLANCE: Duration = Duration::from_millis(100);

/// How long screens move until they rest (`ui/src/app.css`).
const MOTION: Duration = Duration::from_millis(400);

/// What can be tapped.
const TAPPABLE: &str = "button, summary, a, [role=switch], [role=radio], [role=menuitem]";

/// Keys, as WebDriver calls them (W3C WebDriver, 17.4.2): Home; right; Control with V, and everything released.
const HOME: &str = "\u{e011}";
const RIGHT: &str = "\u{e014}";
const PASTE: &str = "\u{e009}v\u{e000}";

/// Lines of its log that are shown of a phone when a test fails.
const LOG_LINES: usize = 60;

/// A phone and the person at it. All that it started ends with it.
#[derive(Debug)]
pub struct Handset<'net> {
    /// Whose it is.
    pub owner: &'static str,
    phone: &'net Phone,
    story: &'static str,
    folder: PathBuf,
    display: String,
    _screen: Processes,
    port: u16,
    driver: Driver<'net>,
    window: Option<Window>,
}

/// The open app, and the driver that opened it.
#[derive(Debug)]
struct Window {
    session: Session,
    _processes: Processes,
}

impl<'net> Handset<'net> {
    /// Turns on a phone that has never been used; everything it keeps is in `folder`.
    pub fn turn_on(
        phone: &'net Phone,
        owner: &'static str,
        story: &'static str,
        folder: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let folder = folder.join(owner);
        for kept in ["home", "data", "config", "cache", "run", "tmp"] {
            fs::create_dir_all(folder.join(kept))?;
        }
        fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(0o700))?;

        let mut xvfb = phone.command("Xvfb");
        xvfb.args(["-displayfd", "1", "-screen", "0"])
            .arg(format!("{WIDTH}x{HEIGHT}x24"))
            .args(["-nolisten", "tcp", "-noreset"]);
        let (screen, display) = Processes::start_ready(xvfb, &folder.join("log"))?;
        Ok(Self {
            owner,
            phone,
            story,
            folder,
            display: format!(":{display}"),
            _screen: screen,
            port: FIRST_PORT,
            driver: Driver::new(phone, FIRST_PORT),
            window: None,
        })
    }

    /// Opens the app.
    pub fn open(&mut self, arguments: &[&str]) -> TestResult {
        // Those of a driver that was killed stay taken for a while.
        self.port += 2;
        self.driver = Driver::new(self.phone, self.port);
        let mut driver = self.phone.command("dbus-run-session");
        driver
            .args(["--", "tauri-driver", "--native-driver"])
            .arg("/usr/bin/WebKitWebDriver")
            .args(["--port", &self.port.to_string()])
            .args(["--native-port", &(self.port + 1).to_string()])
            .env("DISPLAY", &self.display)
            .env("HOME", self.folder.join("home"))
            .env("TMPDIR", self.folder.join("tmp"))
            .env("XDG_DATA_HOME", self.folder.join("data"))
            .env("XDG_CONFIG_HOME", self.folder.join("config"))
            .env("XDG_CACHE_HOME", self.folder.join("cache"))
            .env("XDG_RUNTIME_DIR", self.folder.join("run"))
            .env("LANG", "C.UTF-8")
            .env("RUST_LOG", log_level())
            .env("LINGUALINKED_MODELS", models())
            .env("GDK_BACKEND", "x11")
            .env("NO_AT_BRIDGE", "1")
            // There is no graphics card.
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env("WEBKIT_DISABLE_COMPOSITING_MODE", "1")
            .env("WEBKIT_DISABLE_DMABUF_RENDERER", "1")
            .env_remove("WAYLAND_DISPLAY");
        let processes = Processes::start(driver, &self.log())?;
        self.wait("its driver", |phone| phone.driver.is_ready().then_some(()))?;

        let session = self.driver.open(Path::new(APP), arguments)?;
        self.driver.fit(&session, WIDTH, HEIGHT)?;
        self.window = Some(Window {
            session,
            _processes: processes,
        });
        self.wait("a screen", |phone| (!phone.text().is_empty()).then_some(()))
    }

    /// Closes the window, and waits until the app has ended by itself.
    pub fn close(&mut self) -> TestResult {
        let session = self.session().ok_or("the app is open")?;
        self.driver.close(session)?;
        self.wait_for_end()
    }

    /// Kills the app, as a system does that needs the memory.
    pub fn kill(&mut self) -> TestResult {
        let running = running_in(self.phone, Path::new(APP))?;
        if running.is_empty() {
            return Err("the app was not running".into());
        }
        for pid in running {
            kill(pid, Signal::SIGKILL)?;
        }
        self.wait_for_end()
    }

    fn wait_for_end(&mut self) -> TestResult {
        self.wait("end of the app", |phone| {
            let running = running_in(phone.phone, Path::new(APP)).ok()?;
            running.is_empty().then_some(())
        })?;
        self.window = None;
        Ok(())
    }

    /// The database of what was said on this phone.
    pub fn history(&self) -> PathBuf {
        self.data().join("history.db")
    }

    /// Where the app keeps what is its own.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data/app.lingualinked")
    }

    /// Returns whether links that are tapped elsewhere on this phone open the app.
    pub fn takes_links(&self) -> bool {
        let entry = "data/applications/lingualinked-app-handler.desktop";
        let entry = fs::read_to_string(self.folder.join(entry)).unwrap_or_default();

        entry.contains(APP) && entry.contains("x-scheme-handler/lingualinked")
    }

    /// Taps what shows this name, as soon as it can be tapped.
    pub fn tap(&self, name: &str) -> TestResult {
        self.wait(&format!("`{name}` to tap"), |phone| {
            let element = phone.find(TAPPABLE, name)?;
            phone.driver.tap(phone.session()?, &element).ok()
        })
    }

    /// Replaces what a field holds.
    pub fn fill(&self, field: &str, text: &str) -> TestResult {
        let element = self.wait(&format!("the field `{field}`"), |phone| {
            phone.find("input, textarea", field)
        })?;
        let session = self.session().ok_or("the app is open")?;
        self.driver.clear(session, &element)?;
        self.driver.keys(session, &element, text)
    }

    /// Moves a slider as far down as it goes.
    pub fn slide_down(&self, name: &str) -> TestResult {
        self.slide(name, HOME)
    }

    /// Moves a slider up by so many steps.
    pub fn slide_up(&self, name: &str, steps: usize) -> TestResult {
        match steps {
            0 => Ok(()),
            steps => self.slide(name, &RIGHT.repeat(steps)),
        }
    }

    fn slide(&self, name: &str, keys: &str) -> TestResult {
        self.wait(&format!("the slider `{name}`"), |phone| {
            let thumb = phone.find("[role=slider]", name)?;
            phone.driver.keys(phone.session()?, &thumb, keys).ok()
        })
    }

    /// Taps what copies, and returns what a person could then paste.
    pub fn copied(&self, name: &str) -> Result<String, Box<dyn Error>> {
        self.tap(name)?;
        self.see("Copied")?;
        self.tap("Close")?;
        let field = "const field = document.createElement('textarea'); document.body.prepend(field); return field";
        let field = Element::from_value(&self.run(field, &json!([]))?).ok_or("a field")?;
        let session = self.session().ok_or("the app is open")?;
        self.driver.keys(session, &field, PASTE)?;

        let pasted =
            "const field = document.querySelector('textarea'); field.remove(); return field.value";
        let pasted = self.run(pasted, &json!([]))?;
        Ok(pasted.as_str().unwrap_or_default().to_owned())
    }

    /// Whether something that shows this name can be tapped now.
    pub fn can_tap(&self, name: &str) -> bool {
        self.find(TAPPABLE, name).is_some()
    }

    /// Waits until this can be read.
    pub fn see(&self, text: &str) -> TestResult {
        self.see_within(PATIENCE, text)
    }

    /// The same, for what takes longer.
    pub fn see_within(&self, patience: Duration, text: &str) -> TestResult {
        self.wait_for(patience, &format!("`{text}` to read"), |phone| {
            phone.text().contains(text).then_some(())
        })
    }

    /// All that can be read, on the sheet that lies on top.
    pub fn text(&self) -> String {
        let text = self.look(&json!(["text"])).unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    /// What can be read at each of these places.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let texts = self.look(&json!(["texts", selector])).unwrap_or_default();
        serde_json::from_value(texts).unwrap_or_default()
    }

    /// Photographs the whole screen.
    pub fn photograph(&self, step: &str) -> TestResult {
        thread::sleep(MOTION);
        let name = format!("{step}-{}", self.owner);
        shots::take(self.phone, &self.display, self.story, &name)
    }

    /// Waits until `look` finds something.
    pub fn wait<T>(
        &self,
        what: &str,
        look: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, Box<dyn Error>> {
        self.wait_for(PATIENCE, what, look)
    }

    /// The same, with another patience.
    pub fn wait_for<T>(
        &self,
        patience: Duration,
        what: &str,
        look: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, Box<dyn Error>> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            thread::sleep(GLANCE);
        }
        Err(self.complain(what, patience).into())
    }

    /// Runs a script in the page, for what no person can do.
    pub fn run(&self, script: &str, arguments: &Value) -> Result<Value, Box<dyn Error>> {
        let session = self.session().ok_or("the app is open")?;
        self.driver.run(session, script, arguments)
    }

    fn find(&self, selector: &str, name: &str) -> Option<Element> {
        let found = self.look(&json!(["find", selector, name])).ok()?;
        Element::from_value(&found)
    }

    fn look(&self, arguments: &Value) -> Result<Value, Box<dyn Error>> {
        self.run(include_str!("look.js"), arguments)
    }

    fn session(&self) -> Option<&Session> {
        self.window.as_ref().map(|window| &window.session)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Says what did not come, and what there was instead.
    fn complain(&self, what: &str, patience: Duration) -> String {
        let owner = self.owner;
        let _ = self.photograph("failed"); // the text says as much
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let log = log.lines().collect::<Vec<_>>();
        let log = log[log.len().saturating_sub(LOG_LINES)..].join("\n");

        format!(
            "{owner}: no {what} within {patience:?}.\n--- shown\n{}\n--- logged\n{log}",
            self.text()
        )
    }
}

fn log_level() -> String {
    std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into())
}
