//! What the window may ask of the app, and nothing else: each is a line or two over a [`Session`].
//!
//! Their names and arguments stand in `ui/src/backend/tauri.ts` and in `build.rs`, which makes a permission of each.

use tauri::ipc::{Channel, Invoke};
use tauri::{State, Wry};

use crate::api::{
    AnswerEvent, AppState, Beat, Conversation, ConversationId, Diagnostics, Forecasts,
    ImportResult, LeaveWhen, MessageId, ModelId, Notice, PairingPurpose, PermissionKind, PhoneId,
    Problem, Question, Sampling, ScanResult, SearchHit, SettingChange,
};
use crate::session::{Order, Session};
use crate::watchers::Watchers;

type Done = Result<(), Problem>;

/// Declares commands that are one [`Order`].
macro_rules! orders {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),*) => $order:expr;)*) => {
        $(
            $(#[$doc])*
            #[tauri::command]
            pub async fn $name(session: State<'_, Session>, $($arg: $kind),*) -> Done {
                session.order($order).await
            }
        )*
    };
}

orders! {
    /// See [`Order::Rename`].
    fn rename(name: String) => Order::Rename(name);
    /// See [`Order::Welcome`].
    fn welcome() => Order::Welcome;
    /// See [`Order::ChangeSetting`].
    fn change_setting(change: SettingChange) => Order::ChangeSetting(change);
    /// See [`Order::Look`].
    fn look(on: bool) => Order::Look(on);
    /// See [`Order::Knock`].
    fn knock() => Order::Knock;
    /// See [`Order::StartGroup`].
    fn start_group() => Order::StartGroup;
    /// See [`Order::Pair`].
    fn pair(phone: PhoneId, purpose: PairingPurpose) => Order::Pair(phone, purpose);
    /// See [`Order::Confirm`].
    fn confirm(phone: PhoneId) => Order::Confirm(phone);
    /// See [`Order::Refuse`].
    fn refuse(phone: PhoneId) => Order::Refuse(phone);
    /// See [`Order::Invite`].
    fn invite() => Order::Invite;
    /// See [`Order::CloseInvite`].
    fn close_invite() => Order::CloseInvite;
    /// See [`Order::UseInvite`].
    fn use_invite(text: String) => Order::UseInvite(text);
    /// See [`Order::PutAwayInvite`].
    fn put_away_invite() => Order::PutAwayInvite;
    /// See [`Order::Leave`].
    fn leave(when: LeaveWhen) => Order::Leave(when);
    /// See [`Order::Remove`].
    fn remove(phone: PhoneId) => Order::Remove(phone);
    /// See [`Order::HandOver`].
    fn hand_over(phone: PhoneId) => Order::HandOver(phone);
    /// See [`Order::Exclude`].
    fn exclude(phone: PhoneId, excluded: bool) => Order::Exclude(phone, excluded);
    /// See [`Order::Block`].
    fn block(phone: PhoneId) => Order::Block(phone);
    /// See [`Order::Unblock`].
    fn unblock(phone: PhoneId) => Order::Unblock(phone);
    /// See [`Order::Download`].
    fn download(model: ModelId) => Order::Download(model);
    /// See [`Order::PauseDownload`].
    fn pause_download(model: ModelId) => Order::PauseDownload(model);
    /// See [`Order::DeleteModel`].
    fn delete_model(model: ModelId) => Order::DeleteModel(model);
    /// See [`Order::Start`].
    fn start(model: ModelId) => Order::Start(model);
    /// See [`Order::Stop`].
    fn stop() => Order::Stop;
    /// See [`Order::RenameConversation`].
    fn rename_conversation(conversation: ConversationId, title: String) =>
        Order::RenameConversation(conversation, title);
    /// See [`Order::DeleteConversation`].
    fn delete_conversation(conversation: ConversationId) => Order::DeleteConversation(conversation);
    /// See [`Order::DeleteMessage`].
    fn delete_message(conversation: ConversationId, message: MessageId) =>
        Order::DeleteMessage(conversation, message);
    /// See [`Order::Configure`].
    fn configure_conversation(
        conversation: ConversationId,
        system_prompt: String,
        sampling: Sampling
    ) => Order::Configure(conversation, system_prompt, sampling);
    /// See [`Order::StopAnswer`].
    fn stop_answer(conversation: ConversationId) => Order::StopAnswer(conversation);
}

/// Shows the state, now and whenever it changes.
#[tauri::command]
pub fn watch_state(
    session: State<'_, Session>,
    watchers: State<'_, Watchers>,
    listener: Channel<AppState>,
) -> u32 {
    tracing::info!("A page watches"); // `.github/start-on-emulator` waits for these words
    watchers.state(session.state(), listener)
}

/// Tells what a person should be told once.
#[tauri::command]
pub fn watch_notices(
    session: State<'_, Session>,
    watchers: State<'_, Watchers>,
    listener: Channel<Notice>,
) -> u32 {
    watchers.stream(session.notices(), listener)
}

/// Tells of tokens that go round.
#[tauri::command]
pub fn watch_beats(
    session: State<'_, Session>,
    watchers: State<'_, Watchers>,
    listener: Channel<Beat>,
) -> u32 {
    watchers.stream(session.beats(), listener)
}

/// Ends a watch.
#[tauri::command]
pub fn unwatch(watchers: State<'_, Watchers>, id: u32) {
    watchers.end(id);
}

/// Answers a question; the stream ends with `end`.
#[tauri::command]
pub async fn ask(
    session: State<'_, Session>,
    watchers: State<'_, Watchers>,
    question: Question,
    on: Channel<AnswerEvent>,
) -> Done {
    watchers.stream(session.ask(question).await?, on);
    Ok(())
}

/// Takes up the answer that is being written in a conversation, as [`ask`] would be heard; says whether there is one.
#[tauri::command]
pub async fn watch_answer(
    session: State<'_, Session>,
    watchers: State<'_, Watchers>,
    conversation: ConversationId,
    on: Channel<AnswerEvent>,
) -> Result<bool, Problem> {
    let answer = session.watch_answer(conversation).await?;
    let is_written = answer.is_some();
    if let Some(answer) = answer {
        watchers.stream(answer, on);
    }

    Ok(is_written)
}

/// Makes a conversation.
#[tauri::command]
pub async fn create_conversation(session: State<'_, Session>) -> Result<ConversationId, Problem> {
    session.create_conversation().await
}

/// Hands a conversation over.
#[tauri::command]
pub async fn load_conversation(
    session: State<'_, Session>,
    conversation: ConversationId,
) -> Result<Conversation, Problem> {
    session.load_conversation(conversation).await
}

/// Finds words in all conversations.
#[tauri::command]
pub async fn search(session: State<'_, Session>, query: String) -> Result<Vec<SearchHit>, Problem> {
    session.search(query).await
}

/// Says what to expect of a model.
#[tauri::command]
pub async fn forecast(session: State<'_, Session>, model: ModelId) -> Result<Forecasts, Problem> {
    session.forecast(model).await
}

/// Lets a person choose a model's file, and takes it in.
#[tauri::command]
pub async fn import_model(session: State<'_, Session>) -> Result<ImportResult, Problem> {
    match session.platform().pick_model().await? {
        Some(picked) => session.import(picked).await,
        None => Ok(ImportResult::Cancelled),
    }
}

/// Says what helps to find out what is wrong.
#[tauri::command]
pub async fn diagnostics(session: State<'_, Session>) -> Result<Diagnostics, Problem> {
    session.diagnostics().await
}

/// Shows the system's question; the answer is in the state.
#[tauri::command]
pub async fn request_permission(session: State<'_, Session>, permission: PermissionKind) -> Done {
    session.request_permission(permission).await.map(drop)
}

/// Shows the system's page about this app.
#[tauri::command]
pub async fn open_system_settings(session: State<'_, Session>) -> Done {
    session.platform().open_settings()
}

/// Lets a person hold a code before the camera.
#[tauri::command]
pub async fn scan_qr(session: State<'_, Session>) -> Result<ScanResult, Problem> {
    session.scan().await
}

/// Looks for a code no longer.
#[tauri::command]
pub async fn cancel_scan(session: State<'_, Session>) -> Done {
    session.platform().cancel_scan().await
}

/// Lets a person choose where to write a text. Returns whether they did.
#[tauri::command]
pub async fn save_file(
    session: State<'_, Session>,
    name: String,
    text: String,
) -> Result<bool, Problem> {
    session.save_file(name, text).await
}

/// Opens a web address, which a person was shown and agreed to, outside of the app.
#[tauri::command]
pub async fn open_link(session: State<'_, Session>, url: String) -> Done {
    session.open_link(&url)
}

/// Returns what takes the window's commands.
pub fn handler() -> impl Fn(Invoke<Wry>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        rename,
        welcome,
        change_setting,
        look,
        knock,
        start_group,
        pair,
        confirm,
        refuse,
        invite,
        close_invite,
        use_invite,
        put_away_invite,
        leave,
        remove,
        hand_over,
        exclude,
        block,
        unblock,
        download,
        pause_download,
        delete_model,
        start,
        stop,
        rename_conversation,
        delete_conversation,
        delete_message,
        configure_conversation,
        stop_answer,
        watch_state,
        watch_notices,
        watch_beats,
        unwatch,
        ask,
        watch_answer,
        create_conversation,
        load_conversation,
        search,
        forecast,
        import_model,
        diagnostics,
        request_permission,
        open_system_settings,
        scan_qr,
        cancel_scan,
        save_file,
        open_link,
    ]
}
