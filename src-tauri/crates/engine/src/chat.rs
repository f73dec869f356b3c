//! From a conversation to the text that the model was trained on.
//!
//! Models carry their template as Jinja source, written for Python. `minijinja` runs it, with what
//! Python has and Jinja has not: string methods, `raise_exception`, `strftime_now`. A model without
//! a template gets a plain one.

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
            environment(source)
                .inspect_err(|error| tracing::warn!(%error, "Chat template unusable"))
                .ok()
        });
        let is_plain = compiled.is_none();
        let environment = compiled.unwrap_or_else(|| {
            environment(PLAIN_TEMPLATE.to_owned())
                .expect("the plain template compiles, see the tests")
        });

        Self {
            environment,
            is_plain,
            bos,
            eos,
        }
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
            (
                Err(_),
                [
                    ChatMessage {
                        role: Role::System,
                        content,
                    },
                    first,
                    rest @ ..,
                ],
            ) => {
                let content = format!("{content}\n\n{}", first.content);
                let first = ChatMessage {
                    role: first.role,
                    content,
                };
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
        let template = self
            .environment
            .get_template(TEMPLATE)
            .map_err(ChatError::from)?;
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

/// Returns an environment as Hugging Face's: whitespace trimmed around blocks, Python's methods,
/// `raise_exception`.
fn environment(source: String) -> Result<Environment<'static>, minijinja::Error> {
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |reason: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
        },
    );
    environment.add_template_owned(TEMPLATE, source)?;

    Ok(environment)
}

/// Formats a time, in UTC, as Python's `strftime` does.
fn strftime(now: SystemTime, format: &str) -> Result<String, minijinja::Error> {
    let invalid = |error: &dyn std::fmt::Display| {
        minijinja::Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now({format:?}): {error}"),
        )
    };
    let items = time::format_description::parse_strftime_borrowed(format)
        .map_err(|error| invalid(&error))?;

    time::OffsetDateTime::from(now)
        .format(&items)
        .map_err(|error| invalid(&error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// 26 July 2024, 12:00 UTC.
    const NOON: Duration = Duration::from_secs(1_721_995_200);

    /// As in SmolLM2 and Qwen: blocks on their own, instructions of its own when there are none.
    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}\
        {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn chatml_renders_turns_and_the_beginning_of_the_answer() {
        let rendered = render(CHATML, &[user("Hi"), assistant("Hello"), user("Bye")]);

        assert_eq!(
            rendered.expect("it renders"),
            "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    /// As in Gemma: instructions become part of the first turn, roles must alternate.
    #[test]
    fn gemma_needs_namespaces_exceptions_and_trimmed_blocks() {
        let template = r"{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = '' -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = 'model' -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else '') }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model
' }}
{%- endif -%}";

        let rendered = render(
            template,
            &[
                system("Be brief."),
                user(" Hi "),
                assistant("Hello"),
                user("Bye"),
            ],
        );

        assert_eq!(
            rendered.expect("it renders"),
            "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n\
             <start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
        );
        let refused =
            render(template, &[user("Hi"), user("Hi")]).expect_err("roles do not alternate");
        assert!(refused.reason.contains("roles must alternate"), "{refused}");
    }

    /// As in Llama 3.2: a date, `tojson`, methods of Python's strings, a namespace.
    #[test]
    fn llama_needs_a_date_and_python() {
        let template = r#"{%- if strftime_now is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- else %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- set ns = namespace(n=0) %}
{%- for message in messages %}
    {%- set ns.n = ns.n + 1 %}
    {%- if message.role.startswith('u') and not tools %}
        {{- message.content.strip().upper().replace("HI", "ho") + ' ' + {"n": ns.n} | tojson }}
    {%- endif %}
{%- endfor %}
{{- "\nToday Date: " + date_string + eos_token }}"#;

        let rendered = render(template, &[system("Be brief."), user(" hi there ")]);

        assert_eq!(
            rendered.expect("it renders"),
            "ho THERE {\"n\": 2}\nToday Date: 26 Jul 2024</s>"
        );
    }

    #[test]
    fn blocks_on_lines_of_their_own_leave_no_trace() {
        let template = "{% for message in messages %}\n    {% if true %}\n{{ message.content }}\n    {% endif %}\n{% endfor %}\nend";

        assert_eq!(
            render(template, &[user("a"), user("b")]).expect("it renders"),
            "a\nb\nend"
        );
    }

    #[test]
    fn instructions_that_a_template_refuses_go_before_the_first_turn() {
        let template = "{% for message in messages %}{% if message.role == 'system' %}\
            {{ raise_exception('System role not supported') }}{% endif %}\
            [{{ message.role }}: {{ message.content }}]{% endfor %}";

        let rendered = render(
            template,
            &[system("Be brief."), user("Hi"), assistant("Hello")],
        );

        assert_eq!(
            rendered.expect("it renders"),
            "[user: Be brief.\n\nHi][assistant: Hello]"
        );
    }

    #[test]
    fn without_a_template_a_plain_one_is_used() {
        for source in [None, Some("{% if".to_owned())] {
            let template = ChatTemplate::new(source, String::new(), String::new());

            let messages = [
                system("Be brief."),
                user("Hi"),
                assistant("Hello"),
                user("Bye"),
            ];
            let rendered = template.render(&messages, true, SystemTime::UNIX_EPOCH + NOON);

            assert_eq!(
                rendered.expect("it renders"),
                "Be brief.\n\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:"
            );
            assert_eq!(template.stop_strings(), ["\nUser:", "\nAssistant:"]);
        }
    }

    /// A template is a program from a file of unknown origin.
    #[test]
    fn a_template_that_never_ends_is_ended() {
        let template =
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";

        assert!(render(template, &[user("Hi")]).is_err());
    }

    fn render(template: &str, messages: &[ChatMessage]) -> Result<String, ChatError> {
        let template = ChatTemplate::new(
            Some(template.to_owned()),
            "<s>".to_owned(),
            "</s>".to_owned(),
        );
        assert!(template.stop_strings().is_empty(), "the template compiles");

        template.render(messages, true, SystemTime::UNIX_EPOCH + NOON)
    }

    fn system(content: &str) -> ChatMessage {
        ChatMessage {
            role: Role::System,
            content: content.to_owned(),
        }
    }

    fn user(content: &str) -> ChatMessage {
        ChatMessage {
            role: Role::User,
            content: content.to_owned(),
        }
    }

    fn assistant(content: &str) -> ChatMessage {
        ChatMessage {
            role: Role::Assistant,
            content: content.to_owned(),
        }
    }
}
