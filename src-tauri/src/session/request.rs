//! All that a session is asked.

use tokio::sync::{mpsc, oneshot};

use crate::api::{
    AnswerEvent, Conversation, ConversationId, Diagnostics, Forecasts, ImportResult, LeaveWhen,
    MessageId, ModelId, PairingPurpose, PhoneId, Problem, Question, Sampling, SearchHit,
    SettingChange,
};
use crate::models::Picked;

/// Where an answer to a request goes. Nobody may wait for it any more.
pub type Reply<T> = oneshot::Sender<Result<T, Problem>>;

/// What a session is asked.
#[derive(Debug)]
pub enum Request {
    /// To do something: replied to when it was taken up. What comes of it is seen in the state.
    Do(Order, Reply<()>),
    /// To answer a question. The stream begins with `begun` and ends with `end`.
    Ask(Question, Reply<mpsc::UnboundedReceiver<AnswerEvent>>),
    /// To let an answer be heard that is being written, as if from its beginning; `None` if none is.
    WatchAnswer(
        ConversationId,
        Reply<Option<mpsc::UnboundedReceiver<AnswerEvent>>>,
    ),
    /// To make a conversation.
    Create(Reply<ConversationId>),
    /// To hand a conversation over.
    Load(ConversationId, Reply<Conversation>),
    /// To find words in all conversations.
    Search(String, Reply<Vec<SearchHit>>),
    /// To say what to expect of a model.
    Forecast(ModelId, Reply<Forecasts>),
    /// To take a model's file in.
    Import(Picked, Reply<ImportResult>),
    /// To say what helps to find out what is wrong.
    Diagnostics(Reply<Diagnostics>),
    /// To note that the system's circumstances are others.
    Turn(Turn),
    /// To let go of everybody: the app is behind others, and is stopped once this is done.
    Suspend(oneshot::Sender<()>),
    /// To leave as phones should, and end.
    End(oneshot::Sender<()>),
}

/// What a person wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// To call this phone so.
    Rename(String),
    /// To be done with the welcome screen.
    Welcome,
    /// To decide one thing anew.
    ChangeSetting(SettingChange),
    /// To look for other phones, or not to.
    Look(bool),
    /// To knock at every address of this network, once.
    Knock,
    /// To found a group.
    StartGroup,
    /// To be in one group with a phone nearby.
    Pair(PhoneId, PairingPurpose),
    /// Yes, the codes are the same.
    Confirm(PhoneId),
    /// No, or enough.
    Refuse(PhoneId),
    /// An invite.
    Invite,
    /// No invite any more.
    CloseInvite,
    /// To use another phone's invite: a link or a typed code.
    UseInvite(String),
    /// Not to use the invite that opened the app.
    PutAwayInvite,
    /// To leave the group.
    Leave(LeaveWhen),
    /// A member out of the group.
    Remove(PhoneId),
    /// Another member to lead.
    HandOver(PhoneId),
    /// A phone out of computing, or in it again.
    Exclude(PhoneId, bool),
    /// Never to hear of a phone.
    Block(PhoneId),
    /// To hear of it again.
    Unblock(PhoneId),
    /// A model's file.
    Download(ModelId),
    /// To go on with that later.
    PauseDownload(ModelId),
    /// A model's file gone, or what there is of it.
    DeleteModel(ModelId),
    /// A model to run.
    Start(ModelId),
    /// None to run.
    Stop,
    /// A conversation to have this title.
    RenameConversation(ConversationId, String),
    /// A conversation gone.
    DeleteConversation(ConversationId),
    /// A message gone.
    DeleteMessage(ConversationId, MessageId),
    /// A conversation's next answers to be written so.
    Configure(ConversationId, String, Sampling),
    /// No more of an answer.
    StopAnswer(ConversationId),
}

/// How the system's circumstances have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// The app was opened by a link.
    Opened(String),
    /// The app is in front again.
    Resumed,
    /// A person has answered the system's question.
    Permissions,
}
