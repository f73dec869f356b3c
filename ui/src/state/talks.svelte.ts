/**
 * Conversations that are open, and answers under way.
 *
 * An answer goes on while its conversation is not shown, so what is heard is kept here and not in the screen.
 */
import type { AnswerEvent } from "../bindings/AnswerEvent";
import type { Conversation } from "../bindings/Conversation";
import type { ConversationId } from "../bindings/ConversationId";
import type { Message } from "../bindings/Message";
import type { QuestionWhat } from "../bindings/QuestionWhat";
import type { Sampling } from "../bindings/Sampling";
import { app } from "./app.svelte";

export type Progress =
    | { kind: "sent" }
    | { kind: "queued"; ahead: number }
    | { kind: "reading"; done: number; total: number }
    | { kind: "writing" };

/** Conversations kept in memory; the rest is loaded again. */
const OPEN_MAX = 6;

export class Talk {
    title = $state("");
    systemPrompt = $state("");
    sampling = $state.raw<Sampling | null>(null);
    messages = $state.raw<Message[]>([]);
    /** Of the answer under way, which is the last message. */
    progress = $state.raw<Progress | null>(null);
    /** What a screen reader is told: answers that have ended. */
    spoken = $state("");
    loaded = $state(false);

    constructor(readonly id: ConversationId) {}

    async load(): Promise<void> {
        const loaded = await app.backend.loadConversation(this.id);
        if (this.busy) return;
        this.show(loaded);
        const last = loaded.messages.at(-1)?.body;
        if (last?.kind === "answer" && last.outcome.kind === "under_way") await this.takeUp();
    }

    /** Hears the rest of an answer that was asked for by a page before this one. */
    private async takeUp(): Promise<void> {
        this.progress = { kind: "sent" };
        try {
            if (await app.backend.watchAnswer(this.id, (event) => this.hear(event))) return;
        } catch (error) {
            this.progress = null;
            throw error;
        }
        // It has ended since it was loaded.
        this.progress = null;
        await this.load();
    }

    private show(conversation: Conversation): void {
        this.title = conversation.title;
        this.systemPrompt = conversation.system_prompt;
        this.sampling = conversation.sampling;
        this.messages = conversation.messages;
        this.loaded = true;
    }

    get busy(): boolean {
        return this.progress !== null;
    }

    async ask(what: QuestionWhat): Promise<boolean> {
        if (this.busy) return false;
        this.progress = { kind: "sent" };
        const taken = await app.do((backend) => backend.ask({ conversation: this.id, what }, (event) => this.hear(event)));
        if (!taken) this.progress = null;
        return taken;
    }

    async rename(title: string): Promise<void> {
        if (await app.do((backend) => backend.renameConversation(this.id, title))) this.title = title;
    }

    async configure(systemPrompt: string, sampling: Sampling): Promise<void> {
        if (await app.do((backend) => backend.configureConversation(this.id, systemPrompt, sampling))) {
            this.systemPrompt = systemPrompt;
            this.sampling = sampling;
        }
    }

    async delete(message: string): Promise<void> {
        if (await app.do((backend) => backend.deleteMessage(this.id, message))) {
            this.messages = this.messages.filter((other) => other.id !== message);
        }
    }

    private hear(event: AnswerEvent): void {
        switch (event.kind) {
            case "begun": {
                const from = this.messages.findIndex((message) => message.id === event.dropped_from);
                this.messages = [...(from < 0 ? this.messages : this.messages.slice(0, from)), ...event.added];
                break;
            }
            case "queued":
                this.progress = { kind: "queued", ahead: event.ahead };
                break;
            case "reading":
                this.progress = { kind: "reading", done: event.done, total: event.total };
                break;
            case "text":
                this.progress = { kind: "writing" };
                this.changeLast((last) =>
                    last.body.kind === "answer"
                        ? { ...last, body: { ...last.body, text: last.body.text + event.text } }
                        : last,
                );
                break;
            case "notice":
                this.messages = [...this.messages.slice(0, -1), event.message, ...this.messages.slice(-1)];
                break;
            case "end":
                this.changeLast(() => event.message);
                this.progress = null;
                if (event.message.body.kind === "answer") this.spoken = event.message.body.text;
                break;
        }
    }

    private changeLast(change: (last: Message) => Message): void {
        const last = this.messages.at(-1);
        if (last !== undefined) this.messages = [...this.messages.slice(0, -1), change(last)];
    }
}

class Talks {
    private readonly open = new Map<ConversationId, Talk>();

    /** The conversation, which loads if it is not open yet. */
    get(id: ConversationId): Talk {
        const known = this.open.get(id);
        if (known !== undefined) return known;
        const talk = new Talk(id);
        this.open.set(id, talk);
        void app.do(() => talk.load());
        for (const [other, { busy }] of this.open) {
            if (this.open.size <= OPEN_MAX) break;
            if (!busy && other !== id) this.open.delete(other);
        }
        return talk;
    }

    forget(id: ConversationId): void {
        this.open.delete(id);
    }
}

export const talks = new Talks();
