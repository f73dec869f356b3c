/**
 * The real app behind {@link Backend}: one `invoke` per method, and a `Channel` per stream.
 *
 * The commands, as `src-tauri` defines them. Arguments are camelCase here, and reach Rust in snake_case. An error is a
 * `Problem`.
 *
 * | command                 | arguments                                 | resolves to      |
 * | ----------------------- | ----------------------------------------- | ---------------- |
 * | `watch_state`           | `listener: Channel<AppState>`             | `number`: its id |
 * | `watch_notices`         | `listener: Channel<Notice>`               | `number`         |
 * | `watch_beats`           | `listener: Channel<Beat>`                 | `number`         |
 * | `unwatch`               | `id: number`                              |                  |
 * | `rename`                | `name`                                    |                  |
 * | `welcome`               |                                           |                  |
 * | `request_permission`    | `permission: PermissionKind`              |                  |
 * | `open_system_settings`  |                                           |                  |
 * | `change_setting`        | `change: SettingChange`                   |                  |
 * | `diagnostics`           |                                           | `Diagnostics`    |
 * | `look`                  | `on: boolean`                             |                  |
 * | `knock`                 |                                           |                  |
 * | `start_group`           |                                           |                  |
 * | `pair`                  | `phone`, `purpose: PairingPurpose`        |                  |
 * | `confirm`, `refuse`     | `phone`                                   |                  |
 * | `invite`                |                                           |                  |
 * | `close_invite`          |                                           |                  |
 * | `use_invite`            | `text`                                    |                  |
 * | `put_away_invite`       |                                           |                  |
 * | `scan_qr`               |                                           | `ScanResult`     |
 * | `cancel_scan`           |                                           |                  |
 * | `leave`                 | `when: LeaveWhen`                         |                  |
 * | `remove`, `hand_over`   | `phone`                                   |                  |
 * | `exclude`               | `phone`, `excluded: boolean`              |                  |
 * | `block`, `unblock`      | `phone`                                   |                  |
 * | `download`              | `model`                                   |                  |
 * | `pause_download`        | `model`                                   |                  |
 * | `delete_model`          | `model`                                   |                  |
 * | `import_model`          |                                           | `ImportResult`   |
 * | `forecast`              | `model`                                   | `Forecasts`      |
 * | `start`                 | `model`                                   |                  |
 * | `stop`                  |                                           |                  |
 * | `create_conversation`   |                                           | `ConversationId` |
 * | `load_conversation`     | `conversation`                            | `Conversation`   |
 * | `rename_conversation`   | `conversation`, `title`                   |                  |
 * | `delete_conversation`   | `conversation`                            |                  |
 * | `delete_message`        | `conversation`, `message`                 |                  |
 * | `configure_conversation`| `conversation`, `systemPrompt`, `sampling`|                  |
 * | `search`                | `query`                                   | `SearchHit[]`    |
 * | `ask`                   | `question`, `on: Channel<AnswerEvent>`    |                  |
 * | `watch_answer`          | `conversation`, `on: Channel<AnswerEvent>`| `boolean`        |
 * | `stop_answer`           | `conversation`                            |                  |
 * | `save_file`             | `name`, `text`                            | `boolean`        |
 * | `open_link`             | `url`                                     |                  |
 *
 * Channel messages may arrive after the command's promise has resolved, so the promise ends no stream: `AnswerEvent`'s
 * `end` does.
 */
import { Channel, invoke, type InvokeArgs } from "@tauri-apps/api/core";

import type { AnswerEvent } from "../bindings/AnswerEvent";
import type { AppState } from "../bindings/AppState";
import type { Beat } from "../bindings/Beat";
import type { Conversation } from "../bindings/Conversation";
import type { Diagnostics } from "../bindings/Diagnostics";
import type { Forecasts } from "../bindings/Forecasts";
import type { ImportResult } from "../bindings/ImportResult";
import type { LeaveWhen } from "../bindings/LeaveWhen";
import type { Notice } from "../bindings/Notice";
import type { PairingPurpose } from "../bindings/PairingPurpose";
import type { PermissionKind } from "../bindings/PermissionKind";
import type { Problem } from "../bindings/Problem";
import type { Question } from "../bindings/Question";
import type { Sampling } from "../bindings/Sampling";
import type { ScanResult } from "../bindings/ScanResult";
import type { SearchHit } from "../bindings/SearchHit";
import type { SettingChange } from "../bindings/SettingChange";
import { Refused, type Backend, type Unsubscribe } from "./backend";

export class TauriBackend implements Backend {
    /** Resolves when the last setting that was changed has been. */
    private changed: Promise<void> = Promise.resolve();

    watch = (listener: (state: AppState) => void) => subscribe("watch_state", listener);
    notices = (listener: (notice: Notice) => void) => subscribe("watch_notices", listener);
    beats = (listener: (beat: Beat) => void) => subscribe("watch_beats", listener);

    rename = (name: string) => call<void>("rename", { name });
    welcome = () => call<void>("welcome");
    requestPermission = (permission: PermissionKind) => call<void>("request_permission", { permission });
    openSystemSettings = () => call<void>("open_system_settings");
    changeSetting = (change: SettingChange) => {
        // The app takes commands up side by side: of two changes of one setting, the first might come last.
        const changed = this.changed.then(() => call<void>("change_setting", { change }));
        this.changed = changed.catch(() => undefined);
        return changed;
    };
    diagnostics = () => call<Diagnostics>("diagnostics");

    look = (on: boolean) => call<void>("look", { on });
    knock = () => call<void>("knock");
    startGroup = () => call<void>("start_group");
    pair = (phone: string, purpose: PairingPurpose) => call<void>("pair", { phone, purpose });
    confirm = (phone: string) => call<void>("confirm", { phone });
    refuse = (phone: string) => call<void>("refuse", { phone });
    invite = () => call<void>("invite");
    closeInvite = () => call<void>("close_invite");
    useInvite = (text: string) => call<void>("use_invite", { text });
    putAwayInvite = () => call<void>("put_away_invite");
    scanQr = () => call<ScanResult>("scan_qr");
    cancelScan = () => call<void>("cancel_scan");
    leave = (when: LeaveWhen) => call<void>("leave", { when });
    remove = (phone: string) => call<void>("remove", { phone });
    handOver = (phone: string) => call<void>("hand_over", { phone });
    exclude = (phone: string, excluded: boolean) => call<void>("exclude", { phone, excluded });
    block = (phone: string) => call<void>("block", { phone });
    unblock = (phone: string) => call<void>("unblock", { phone });

    download = (model: string) => call<void>("download", { model });
    pauseDownload = (model: string) => call<void>("pause_download", { model });
    deleteModel = (model: string) => call<void>("delete_model", { model });
    importModel = () => call<ImportResult>("import_model");
    forecast = (model: string) => call<Forecasts>("forecast", { model });
    start = (model: string) => call<void>("start", { model });
    stop = () => call<void>("stop");

    createConversation = () => call<string>("create_conversation");
    loadConversation = (conversation: string) => call<Conversation>("load_conversation", { conversation });
    renameConversation = (conversation: string, title: string) =>
        call<void>("rename_conversation", { conversation, title });
    deleteConversation = (conversation: string) => call<void>("delete_conversation", { conversation });
    deleteMessage = (conversation: string, message: string) =>
        call<void>("delete_message", { conversation, message });
    configureConversation = (conversation: string, systemPrompt: string, sampling: Sampling) =>
        call<void>("configure_conversation", { conversation, systemPrompt, sampling });
    search = (query: string) => call<SearchHit[]>("search", { query });
    ask = (question: Question, on: (event: AnswerEvent) => void) =>
        call<void>("ask", { question, on: new Channel(on) });
    watchAnswer = (conversation: string, on: (event: AnswerEvent) => void) =>
        call<boolean>("watch_answer", { conversation, on: new Channel(on) });
    stopAnswer = (conversation: string) => call<void>("stop_answer", { conversation });
    saveFile = (name: string, text: string) => call<boolean>("save_file", { name, text });
    openLink = (url: string) => call<void>("open_link", { url });
}

async function call<T>(command: string, args?: InvokeArgs): Promise<T> {
    try {
        return await invoke<T>(command, args);
    } catch (error) {
        throw new Refused(asProblem(error));
    }
}

/** Tauri rejects with a plain string where a command is missing or its arguments cannot be read. */
function asProblem(error: unknown): Problem {
    if (typeof error === "object" && error !== null && "kind" in error) return error as Problem;
    return { kind: "other", detail: String(error) };
}

function subscribe<T>(command: string, listener: (value: T) => void): Unsubscribe {
    let over = false;
    const channel = new Channel<T>((value) => {
        if (!over) listener(value);
    });
    const id = call<number>(command, { listener: channel });
    // Nobody can act on it here: a screen without state shows that it is waiting.
    id.catch((error: unknown) => console.error(command, error));
    return () => {
        over = true;
        void id.then((id) => call<void>("unwatch", { id })).catch(() => undefined);
    };
}
