//! The W3C's WebDriver, as much of it as a finger needs.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use netshim::Phone;
use serde_json::{Value, json};
use ureq::Agent;

/// How long one command may take: a window opens in 1 to 3 s on a quiet machine.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// What a WebDriver calls an element's number (W3C WebDriver, 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A driver in a phone, to which nothing but the phone itself can speak.
#[derive(Debug)]
pub struct Driver<'net> {
    phone: &'net Phone,
    port: u16,
    agent: Agent,
}

/// An open window.
#[derive(Debug)]
pub struct Session {
    path: String,
}

/// Something in the page.
#[derive(Debug)]
pub struct Element(String);

impl<'net> Driver<'net> {
    /// Speaks to the driver that listens on `port` in `phone`.
    pub fn new(phone: &'net Phone, port: u16) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(COMMAND_MAX))
            .http_status_as_error(false);
        let agent = Agent::new_with_config(config.build());
        Self { phone, port, agent }
    }

    /// Whether it answers.
    pub fn is_ready(&self) -> bool {
        self.get("/status").is_ok()
    }

    /// Opens the window of `application`.
    pub fn open(&self, application: &Path, arguments: &[&str]) -> Result<Session, Box<dyn Error>> {
        let options = json!({ "application": application, "args": arguments });
        let wanted = json!({ "tauri:options": options });
        let capabilities = json!({ "capabilities": { "alwaysMatch": wanted } });
        let answer = self.post("/session", &capabilities)?;

        let id = answer["sessionId"].as_str().ok_or("a session has an id")?;
        let path = format!("/session/{id}");
        Ok(Session { path })
    }

    /// Puts the window where the screen begins, and makes it so large.
    pub fn fit(&self, session: &Session, width: u32, height: u32) -> Result<(), Box<dyn Error>> {
        let rect = json!({ "x": 0, "y": 0, "width": width, "height": height });
        self.post(&format!("{}/window/rect", session.path), &rect)
            .map(drop)
    }

    /// Closes the window.
    pub fn close(&self, session: &Session) -> Result<(), Box<dyn Error>> {
        self.ask(&session.path, |agent, url| agent.delete(url).call())
            .map(drop)
    }

    /// Runs the body of a function in the page, and returns what it returned.
    pub fn run(
        &self,
        session: &Session,
        script: &str,
        arguments: &Value,
    ) -> Result<Value, Box<dyn Error>> {
        let body = json!({ "script": script, "args": arguments });
        self.post(&format!("{}/execute/sync", session.path), &body)
    }

    /// Taps an element where it is.
    pub fn tap(&self, session: &Session, element: &Element) -> Result<(), Box<dyn Error>> {
        let path = format!("{}/element/{}/click", session.path, element.0);
        self.post(&path, &json!({})).map(drop)
    }

    /// Empties a field.
    pub fn clear(&self, session: &Session, element: &Element) -> Result<(), Box<dyn Error>> {
        let path = format!("{}/element/{}/clear", session.path, element.0);
        self.post(&path, &json!({})).map(drop)
    }

    /// Types into an element.
    pub fn keys(
        &self,
        session: &Session,
        element: &Element,
        text: &str,
    ) -> Result<(), Box<dyn Error>> {
        let path = format!("{}/element/{}/value", session.path, element.0);
        self.post(&path, &json!({ "text": text })).map(drop)
    }

    fn get(&self, path: &str) -> Result<Value, Box<dyn Error>> {
        self.ask(path, |agent, url| agent.get(url).call())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Box<dyn Error>> {
        self.ask(path, |agent, url| agent.post(url).send_json(body))
    }

    /// Asks from within the phone, and returns the answer's value.
    fn ask<F>(&self, path: &str, ask: F) -> Result<Value, Box<dyn Error>>
    where
        F: FnOnce(&Agent, &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send,
    {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = self.phone.enter(|| {
            let mut response = ask(&self.agent, &url)?;
            response.body_mut().read_json::<Value>()
        })??;

        let value = &answer["value"];
        match value["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", value["message"]).into()),
            None => Ok(value.clone()),
        }
    }
}

impl Element {
    /// Reads what a script returned; `None` unless it is an element.
    pub fn from_value(value: &Value) -> Option<Self> {
        Some(Self(value[ELEMENT].as_str()?.to_owned()))
    }
}
