/**
 * All that a screen can ask of the world, and all that it hears from it.
 *
 * Three kinds of talk, which never mix:
 *
 * - **State** is watched: `watch` hands over the whole {@link AppState} at once and whenever it changes. Only the last one
 *   counts, so one may be skipped.
 * - **Edges** that must not be missed are streams: an answer's words (`ask`, `watchAnswer`), notices, beats of the ring.
 * - **Commands** resolve when the phone has taken them up, not when their effect is there; the effect is seen in the state.
 *   They reject with a {@link Refused}, and with nothing else.
 *
 * There are two: `DemoBackend`, a scripted group without any phone, and `TauriBackend`, the app.
 */
import type { AnswerEvent } from "../bindings/AnswerEvent";
import type { AppState } from "../bindings/AppState";
import type { Beat } from "../bindings/Beat";
import type { Conversation } from "../bindings/Conversation";
import type { ConversationId } from "../bindings/ConversationId";
import type { Diagnostics } from "../bindings/Diagnostics";
import type { Forecasts } from "../bindings/Forecasts";
import type { ImportResult } from "../bindings/ImportResult";
import type { LeaveWhen } from "../bindings/LeaveWhen";
import type { MessageId } from "../bindings/MessageId";
import type { ModelId } from "../bindings/ModelId";
import type { Notice } from "../bindings/Notice";
import type { PairingPurpose } from "../bindings/PairingPurpose";
import type { PermissionKind } from "../bindings/PermissionKind";
import type { PhoneId } from "../bindings/PhoneId";
import type { Problem } from "../bindings/Problem";
import type { Question } from "../bindings/Question";
import type { Sampling } from "../bindings/Sampling";
import type { ScanResult } from "../bindings/ScanResult";
import type { SearchHit } from "../bindings/SearchHit";
import type { SettingChange } from "../bindings/SettingChange";

/** Ends a subscription. Nothing is heard after it was called. */
export type Unsubscribe = () => void;

/** What a command rejects with. */
export class Refused extends Error {
    override readonly name = "Refused";

    constructor(readonly problem: Problem) {
        super(problem.kind);
    }
}

export interface Backend {
    // What happens

    /** Calls `listener` with the state as it is, and then with each that follows. */
    watch(listener: (state: AppState) => void): Unsubscribe;
    /** Things that a person should be told once. */
    notices(listener: (notice: Notice) => void): Unsubscribe;
    /** Tokens going round the ring, whoever asked; for the picture only. */
    beats(listener: (beat: Beat) => void): Unsubscribe;

    // This phone

    rename(name: string): Promise<void>;
    /** The welcome screen has been gone through. */
    welcome(): Promise<void>;
    /** Shows the system's question; the answer is in the state. */
    requestPermission(permission: PermissionKind): Promise<void>;
    /** Where a permission that was refused can be given. */
    openSystemSettings(): Promise<void>;
    /** Changes one setting and leaves the others; of several changes, the last one counts. */
    changeSetting(change: SettingChange): Promise<void>;
    diagnostics(): Promise<Diagnostics>;

    // People

    look(on: boolean): Promise<void>;
    /** Knocks at every address of this network, for phones that looking does not find. */
    knock(): Promise<void>;
    /** Founds a group of one. */
    startGroup(): Promise<void>;
    /** Tapped a nearby phone. */
    pair(phone: PhoneId, purpose: PairingPurpose): Promise<void>;
    /** Saw the same code on both screens. */
    confirm(phone: PhoneId): Promise<void>;
    /** Says no, stops asking, or puts away a pairing that has ended. */
    refuse(phone: PhoneId): Promise<void>;
    /** An invite for one phone; founds a group if there is none. */
    invite(): Promise<void>;
    closeInvite(): Promise<void>;
    /** A link that was pasted or scanned, or a code that was typed. */
    useInvite(text: string): Promise<void>;
    /** Does not use the invite by which the app was opened. */
    putAwayInvite(): Promise<void>;
    /** Asks for the camera, if nobody was asked yet. Its picture lies behind the page, which has to be seen through. */
    scanQr(): Promise<ScanResult>;
    /** Ends a scan that is under way. */
    cancelScan(): Promise<void>;
    leave(when: LeaveWhen): Promise<void>;
    /** Only on the leader's phone, like `handOver`. */
    remove(phone: PhoneId): Promise<void>;
    handOver(phone: PhoneId): Promise<void>;
    /** Whether a member takes part in computing. Everybody may say so of their own phone, the leader of all. */
    exclude(phone: PhoneId, excluded: boolean): Promise<void>;
    block(phone: PhoneId): Promise<void>;
    unblock(phone: PhoneId): Promise<void>;

    // Models

    download(model: ModelId): Promise<void>;
    pauseDownload(model: ModelId): Promise<void>;
    /** Removes the file, or what was downloaded or copied of it. */
    deleteModel(model: ModelId): Promise<void>;
    /** Lets a person pick a GGUF file. Where it has to be copied first, that is seen in the state; `deleteModel` stops it. */
    importModel(): Promise<ImportResult>;
    forecast(model: ModelId): Promise<Forecasts>;
    /** Makes a model ready in the group, or on this phone alone. */
    start(model: ModelId): Promise<void>;
    /** Unloads what runs. */
    stop(): Promise<void>;

    // Conversations. They are kept on the phone on which they are held

    createConversation(): Promise<ConversationId>;
    loadConversation(conversation: ConversationId): Promise<Conversation>;
    renameConversation(conversation: ConversationId, title: string): Promise<void>;
    deleteConversation(conversation: ConversationId): Promise<void>;
    deleteMessage(conversation: ConversationId, message: MessageId): Promise<void>;
    configureConversation(conversation: ConversationId, systemPrompt: string, sampling: Sampling): Promise<void>;
    search(query: string): Promise<SearchHit[]>;
    /** Asks; `on` hears everything up to and including `end`. Rejects if the question was not taken; nothing is heard then. */
    ask(question: Question, on: (event: AnswerEvent) => void): Promise<void>;
    /**
     * Takes up the answer that is being written, after the page was loaded anew: `on` hears it as if from its beginning, up
     * to and including `end`. Resolves to whether one is being written; nothing is heard if not.
     */
    watchAnswer(conversation: ConversationId, on: (event: AnswerEvent) => void): Promise<boolean>;
    stopAnswer(conversation: ConversationId): Promise<void>;
    /** Lets a person choose where to save a text file. Resolves to whether they did. */
    saveFile(name: string, text: string): Promise<boolean>;
    /** Opens a web address, which a person was shown and agreed to, outside of the app. */
    openLink(url: string): Promise<void>;
}
