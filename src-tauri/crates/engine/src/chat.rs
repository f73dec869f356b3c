//! From a conversation to the text that the model was trained on.
//!
//! Models carry their template as Jinja source, written for Python. `minijinja` runs it, with what Python has and Jinja
//! has not: string methods, `raise_exception`, `strftime_now`. A model without a template gets a plain one.

use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

/// For models that carry no template: base models, which go on with any text.
const PLAIN_TEMPLATE: &str = r"
{%- for message in messages %}
{%- if message.role == 'system' %}{{ message.content + '\n\n' }}
{%- elif message.role == 'user' %}{{ 'User: ' + message.content + '\n' }}
{%- else %}{{ 'Assistant: ' + message.content + '\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}Assistant:{% endif %}";

/// With the plain template nothing but these says that the answer is over.
const PLAIN_STOPS: &[&str] = &["\nUser:", "\nAssistant:"];

/// Steps that a template may take: a template comes from a file of unknown origin and may loop.
///
/// A guess: templates take some dozens of steps per message.
const FUEL: u64 = 10_000_000;

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// The model's template does not accept the conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model's chat template failed: {reason}")]
pub struct ChatError {
    /// What the template or its interpreter said.
    pub reason: String,
}

/// A model's template, ready to render.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    is_plain: bool,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles the model's template; the plain one if there is none or it does not compile.
    pub(crate) fn new(source: Option<String>, bos: String, eos: String) -> Self {
        let compiled = source.and_then(|source| {
            environment(source).inspect_err(|error| tracing::warn!(%error, "Chat template unusable")).ok()
        });
        let is_plain = compiled.is_none();
        let environment = compiled.unwrap_or_else(|| {
            environment(PLAIN_TEMPLATE.to_owned()).expect("the plain template compiles, see the tests")
        });

        Self { environment, is_plain, bos, eos }
    }

    /// Renders a conversation.
    ///
    /// Where the template refuses instructions, they are put before what the person says first.
    pub(crate) fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, ChatError> {
        let rendered = self.render_as_is(messages, add_generation_prompt, now);
        match (rendered, messages) {
            (Err(_), [ChatMessage { role: Role::System, content }, first, rest @ ..]) => {
                let content = format!("{content}\n\n{}", first.content);
                let first = ChatMessage { role: first.role, content };
                let folded = [&[first], rest].concat();
                self.render_as_is(&folded, add_generation_prompt, now)
            }
            (rendered, _) => rendered,
        }
    }

    pub(crate) fn stop_strings(&self) -> &'static [&'static str] {
        if self.is_plain { PLAIN_STOPS } else { &[] }
    }

    fn render_as_is(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, ChatError> {
        let strftime_now = move |format: &str| strftime(now, format);
        let template = self.environment.get_template(TEMPLATE).map_err(ChatError::from)?;
        let rendered = template.render(context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt,
            bos_token => &self.bos,
            eos_token => &self.eos,
            strftime_now => Value::from_function(strftime_now),
        });

        rendered.map_err(ChatError::from)
    }
}

/// What the only template of an environment is called.
const TEMPLATE: &str = "chat";

/// Returns an environment as Hugging Face's: whitespace trimmed around blocks, Python's methods, `raise_exception`.
fn environment(source: String) -> Result<Environment<'static>, minijinja::Error> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
    });
    environment.add_template_owned(TEMPLATE, source)?;

    Ok(environment)
}

/// Formats a time, in UTC, as Python's `strftime` does.
fn strftime(now: SystemTime, format: &str) -> Result<String, minijinja::Error> {
    let invalid = |error: &dyn std::fmt::Display| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}"))
    };
    let items = time::format_description::parse_strftime_borrowed(format).map_err(|error| invalid(&error))?;

    time::OffsetDateTime::from(now).format(&items).map_err(|error| invalid(&error))
}

impl From<minijinja::Error> for ChatError {
    fn from(error: minijinja::Error) -> Self {
        let reason = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.to_string(),
        };

        Self { reason }
    }
}
