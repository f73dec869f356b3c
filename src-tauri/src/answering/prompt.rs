//! A conversation, as the model is asked to go on with it.

use proto::chat::{Ask, COMPLETION_TOKENS_MAX, Message as Said, Prompt, Sampling as Drawing};

use crate::api::{Conversation, Message, MessageBody, Sampling};

/// Tokens that a repetition penalty looks back on: two sentences or three. As others have it.
const REPETITION_WINDOW: u32 = 64;

/// Returns what to ask for the answer that ends a conversation, with `seed` if the conversation names none.
pub fn ask_of(conversation: &Conversation, seed: u64) -> Ask {
    let mut said = Vec::new();
    if !conversation.system_prompt.trim().is_empty() {
        said.push(line("system", &conversation.system_prompt));
    }
    said.extend(turns(&conversation.messages));

    Ask {
        prompt: Prompt::Chat(said),
        max_tokens: conversation
            .sampling
            .max_tokens
            .clamp(1, COMPLETION_TOKENS_MAX),
        sampling: drawing(&conversation.sampling, seed),
        stop: Vec::new(),
        ignore_end: false,
        written: Vec::new(),
    }
}

/// Returns questions and answers in turn, as templates want them: a question that was not answered was not asked, but for
/// the last one, which is.
fn turns(messages: &[Message]) -> Vec<Said> {
    let mut said = Vec::new();
    let mut asked = None;

    for message in messages {
        match &message.body {
            MessageBody::Question { text, .. } => asked = Some(text),
            MessageBody::Answer { text, .. } if !text.is_empty() => {
                if let Some(asked) = asked.take() {
                    said.extend([line("user", asked), line("assistant", text)]);
                }
            }
            MessageBody::Answer { .. } | MessageBody::Notice { .. } => {}
        }
    }
    said.extend(asked.map(|asked| line("user", asked)));

    said
}

fn line(role: &str, content: &str) -> Said {
    Said {
        role: role.into(),
        content: content.into(),
    }
}

fn drawing(sampling: &Sampling, seed: u64) -> Drawing {
    Drawing {
        temperature: sampling.temperature as f32,
        top_k: sampling.top_k,
        top_p: sampling.top_p as f32,
        min_p: sampling.min_p as f32,
        repetition_penalty: sampling.repetition_penalty as f32,
        repetition_window: REPETITION_WINDOW,
        seed: sampling.seed.unwrap_or(seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AnswerOutcome, ConversationId, MessageId, Notice};

    #[test]
    fn questions_and_answers_take_turns() {
        let conversation = conversation(vec![
            question("one"),
            answer("first"),
            MessageBody::Notice {
                what: Notice::ContinuingAlone,
            },
            question("failed"),
            answer(""),
            question("two"),
            answer(""),
        ]);

        let ask = ask_of(&conversation, 7);

        let Prompt::Chat(said) = &ask.prompt else {
            panic!("a conversation is a chat");
        };
        let said = said.iter().map(|m| (m.role.as_str(), m.content.as_str()));
        assert_eq!(
            said.collect::<Vec<_>>(),
            [
                ("system", "Be brief."),
                ("user", "one"),
                ("assistant", "first"),
                ("user", "two"),
            ]
        );
        assert_eq!(ask.sampling.seed, 7);
        assert_eq!(ask.validate(), Ok(()));
    }

    fn conversation(bodies: Vec<MessageBody>) -> Conversation {
        let messages = bodies.into_iter().enumerate().map(|(i, body)| Message {
            id: MessageId(i.to_string()),
            at_unix_ms: 0,
            body,
        });

        Conversation {
            id: ConversationId("c".into()),
            title: String::new(),
            system_prompt: "Be brief.".into(),
            sampling: Sampling::default(),
            messages: messages.collect(),
        }
    }

    fn question(text: &str) -> MessageBody {
        MessageBody::Question {
            text: text.into(),
            asker: "Anna".into(),
        }
    }

    fn answer(text: &str) -> MessageBody {
        MessageBody::Answer {
            text: text.into(),
            outcome: AnswerOutcome::UnderWay,
            figures: None,
        }
    }
}
