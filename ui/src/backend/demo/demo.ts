/**
 * A group without phones: simulated ones appear, ask, stream shards, answer and leave.
 *
 * It serves design work, the browser demo and tests. What happens is a script: who is around, what a model says, when a
 * phone leaves. Times are real divided by `speed`, luck comes from `seed`, so the same demo can be seen again. Everything
 * is kept in one {@link AppState} that is handed out as a copy, as the real app would.
 *
 * - `pair` finds the other side agreeing after a moment; `useInvite` and `scanQr` lead to the first phone around. Where
 *   there is none, a scan goes on until it is ended.
 * - `start` streams shards, loads, and is ready; `ask` reads, writes, and sends beats.
 * - With `events` on, things happen by themselves: another phone asks a question now and then, and Sam's phone leaves in
 *   the middle of the second answer.
 */
import type { AnswerEvent } from "../../bindings/AnswerEvent";
import type { AppState } from "../../bindings/AppState";
import type { Beat } from "../../bindings/Beat";
import type { Conversation } from "../../bindings/Conversation";
import type { Diagnostics } from "../../bindings/Diagnostics";
import type { Forecasts } from "../../bindings/Forecasts";
import type { ImportResult } from "../../bindings/ImportResult";
import type { LeaveWhen } from "../../bindings/LeaveWhen";
import type { Message } from "../../bindings/Message";
import type { Model } from "../../bindings/Model";
import type { Notice } from "../../bindings/Notice";
import type { Pairing } from "../../bindings/Pairing";
import type { PairingPurpose } from "../../bindings/PairingPurpose";
import type { PermissionKind } from "../../bindings/PermissionKind";
import type { Problem } from "../../bindings/Problem";
import type { Question } from "../../bindings/Question";
import type { QueuedQuestion } from "../../bindings/QueuedQuestion";
import type { Run } from "../../bindings/Run";
import type { Sampling } from "../../bindings/Sampling";
import type { ScanResult } from "../../bindings/ScanResult";
import type { SearchHit } from "../../bindings/SearchHit";
import type { SettingChange } from "../../bindings/SettingChange";
import { Refused, type Backend, type Unsubscribe } from "../backend";
import { Luck } from "./luck";
import { GB, ME, asMember, forecasts, outlook, type DemoPhone } from "./phones";
import { DEMO_CODE, DEMO_LINK, SAMPLING, SCENARIOS, freshId, question, runs, seed, summary, type Scenario } from "./seeds";
import { ANSWERS, GREETING, SKY, TRIP } from "./words";

export interface DemoOptions {
    scenario: Scenario;
    seed: number;
    /** How much faster than in life. */
    speed: number;
    /** Whether phones do things by themselves. */
    events: boolean;
}

/** How often words arrive: batches of 30 to 50 ms, as the app sends them. */
const TEXT_MS = 40;
/** How long what was decided takes to be seen: the app shows its state ten times a second. */
const SHOW_MS = 100;
const SHARD_RATE_BYTES_S = 38e6;
const DOWNLOAD_RATE_BYTES_S = 11e6;
/** What a phone's flash takes. */
const COPY_RATE_BYTES_S = 220e6;
const TICK_MS = 200;
const HAPPENED_MAX = 50;

interface Answering {
    message: Message & { body: { kind: "answer" } };
    /** Who hears it. */
    listeners: Set<(event: AnswerEvent) => void>;
    stopped: boolean;
}

export class DemoBackend implements Backend {
    private readonly state: AppState;
    private readonly talks: Map<string, Conversation>;
    private readonly around: DemoPhone[];
    private readonly toldFirst: Notice[];
    private readonly luck: Luck;
    private readonly answering = new Map<string, Answering>();
    private readonly stateListeners = new Set<(state: AppState) => void>();
    private readonly noticeListeners = new Set<(notice: Notice) => void>();
    private readonly beatListeners = new Set<(beat: Beat) => void>();
    private readonly downloads = new Set<string>();
    private putCameraAway = (): void => undefined;
    private answers = 0;
    /** The server breaks off halfway, once. */
    private unsteady: boolean;
    private emitting = false;

    constructor(private readonly options: DemoOptions) {
        const start = seed(options.scenario, Date.now());
        this.state = start.state;
        this.talks = start.conversations;
        this.around = start.around;
        this.toldFirst = start.toldFirst;
        this.luck = new Luck(options.seed);
        this.unsteady = options.scenario === "unsteady";
        this.refit();
        if (options.scenario === "asked") this.after(700, () => this.isAsked("anna"));
        if (options.scenario === "preparing") void this.start("llama3");
        // Asked by the page before.
        if (options.scenario === "reloaded") void this.ask({ conversation: "sky", what: { kind: "again" } }, () => undefined);
        if (options.events) this.others();
    }

    // What happens

    watch(listener: (state: AppState) => void): Unsubscribe {
        listener(structuredClone(this.state));
        return joined(this.stateListeners, listener);
    }

    notices(listener: (notice: Notice) => void): Unsubscribe {
        for (const notice of this.toldFirst.splice(0)) listener(notice);
        return joined(this.noticeListeners, listener);
    }

    beats(listener: (beat: Beat) => void): Unsubscribe {
        return joined(this.beatListeners, listener);
    }

    // This phone

    async rename(name: string): Promise<void> {
        this.change((state) => {
            state.name = name;
            for (const member of state.group?.members ?? []) if (member.id === ME.id) member.name = name;
        });
    }

    async welcome(): Promise<void> {
        this.change((state) => (state.welcomed = true));
    }

    async requestPermission(kind: PermissionKind): Promise<void> {
        await this.wait(400);
        this.change((state) => {
            for (const permission of state.permissions) if (permission.kind === kind) permission.status = "granted";
        });
    }

    async openSystemSettings(): Promise<void> {
        await this.requestPermission("local_network");
        this.change((state) => (state.network = { kind: "ok" }));
    }

    async changeSetting({ setting, value }: SettingChange): Promise<void> {
        await this.wait(SHOW_MS);
        this.change((state) => {
            state.settings = { ...state.settings, [setting]: value };
            state.storage.quota_bytes = state.settings.storage_quota_bytes;
        });
    }

    async diagnostics(): Promise<Diagnostics> {
        const { device, group, run, network } = this.state;
        const lines = [
            `LinguaLinked ${this.state.app_version} (demo)`,
            `memory ${(device.free_memory_bytes / GB).toFixed(1)} of ${(device.total_memory_bytes / GB).toFixed(1)} GB free, ${(device.memory_budget_bytes / GB).toFixed(1)} GB for this app`,
            `battery ${Math.round((device.battery ?? 0) * 100)} %, charging ${device.charging}, ${device.heat}`,
            `network ${network.kind}, nearby ${this.state.nearby.length}`,
            `members ${group?.members.map((member) => `${member.id}:${member.presence}`).join(" ") ?? "none"}`,
            `run ${run === null ? "none" : `${run.model} ${run.phase.kind} ${run.stages.map((stage) => `${stage.phone}[${stage.layers.join("..")}]`).join(" ")}`}`,
        ];
        return { text: lines.join("\n") };
    }

    // People

    async look(on: boolean): Promise<void> {
        if (this.state.looking === on) return;
        this.change((state) => (state.looking = on));
        if (on && this.options.scenario !== "unheard") this.find();
    }

    async knock(): Promise<void> {
        this.find();
    }

    async startGroup(): Promise<void> {
        this.change((state) => {
            state.group ??= { members: [{ ...asMember(ME), name: state.name }], leader: ME.id, happened: [], leaving: false };
        });
        this.refit();
    }

    async pair(id: string, purpose: PairingPurpose): Promise<void> {
        const phone = this.neighbour(id);
        if (phone.version !== "same") throw new Refused({ kind: "other_version", version: phone.version });
        this.pairing(id, { phone: id, name: phone.name, purpose, asked_by_them: false, code: null, stage: { kind: "connecting" } });
        const code = this.luck.code();
        this.after(700, () => this.step(id, (pairing) => {
            pairing.code = code;
            pairing.stage = { kind: "compare" };
        }));
    }

    async confirm(id: string): Promise<void> {
        this.step(id, (pairing) => (pairing.stage = { kind: "agreed_here" }));
        this.after(1400, () => this.step(id, (pairing) => (pairing.stage = { kind: "entering" })));
        this.after(2000, () => {
            if (this.state.pairings.some((pairing) => pairing.phone === id)) this.enter(id);
        });
    }

    async refuse(id: string): Promise<void> {
        this.change((state) => (state.pairings = state.pairings.filter((pairing) => pairing.phone !== id)));
    }

    async invite(): Promise<void> {
        await this.startGroup();
        this.change((state) => {
            state.invite = { link: DEMO_LINK, typed_code: DEMO_CODE, expires_unix_ms: Date.now() + 10 * 60_000 };
        });
        if (this.options.events) this.after(6000, () => this.state.invite !== null && this.enter("jo"));
    }

    async closeInvite(): Promise<void> {
        this.change((state) => (state.invite = null));
    }

    async useInvite(text: string): Promise<void> {
        const plain = text.trim();
        const code = plain.replace(/[\s-]/g, "").toUpperCase();
        if (/^[0-9A-Z]{24}$/.test(code)) {
            if (code !== DEMO_CODE.replaceAll("-", "")) throw new Refused({ kind: "mistyped" });
        } else if (!plain.startsWith("lingualinked://join?")) {
            throw new Refused({ kind: "not_a_link" });
        } else if (!plain.startsWith("lingualinked://join?v=1")) {
            throw new Refused({ kind: "other_version", version: "ours_older" });
        }
        const host = this.neighbour("anna");
        await this.putAwayInvite();
        this.pairing(host.id, { phone: host.id, name: host.name, purpose: "join", asked_by_them: false, code: null, stage: { kind: "entering" } });
        this.after(900, () => this.enter(host.id));
    }

    async putAwayInvite(): Promise<void> {
        this.change((state) => (state.opened_invite = null));
    }

    async scanQr(): Promise<ScanResult> {
        if (this.state.permissions.some(({ kind, status }) => kind === "camera" && status === "denied")) return { kind: "denied" };
        await this.requestPermission("camera");
        return new Promise((resolve) => {
            this.putCameraAway = () => resolve({ kind: "cancelled" });
            // Where nobody is around, nobody shows a code.
            if (this.around.length > 0) this.after(1500, () => resolve({ kind: "scanned", text: DEMO_LINK }));
        });
    }

    async cancelScan(): Promise<void> {
        this.putCameraAway();
    }

    async leave(when: LeaveWhen): Promise<void> {
        if (when === "after_answer" && this.answering.size > 0) {
            this.change((state) => state.group !== null && (state.group.leaving = true));
            return;
        }
        this.goAlone();
    }

    async remove(id: string): Promise<void> {
        this.led();
        this.gone(id, "removed");
    }

    async handOver(id: string): Promise<void> {
        this.led();
        this.change((state) => state.group !== null && (state.group.leader = id));
        this.tell({ kind: "leader_changed", name: this.nameOf(id) });
    }

    async exclude(id: string, excluded: boolean): Promise<void> {
        this.change((state) => {
            for (const member of state.group?.members ?? []) if (member.id === id) member.excluded = excluded;
        });
        this.replan({ kind: "rebalanced", name: this.nameOf(id), reason: excluded ? "left_out" : "newcomer" });
    }

    async block(id: string): Promise<void> {
        const name = this.nameOf(id);
        if (this.state.group?.members.some((member) => member.id === id)) this.gone(id, "removed");
        this.change((state) => {
            state.blocked.push({ id, name });
            state.nearby = state.nearby.filter((phone) => phone.id !== id);
            state.pairings = state.pairings.filter((pairing) => pairing.phone !== id);
        });
    }

    async unblock(id: string): Promise<void> {
        this.change((state) => (state.blocked = state.blocked.filter((phone) => phone.id !== id)));
    }

    // Models

    async download(id: string): Promise<void> {
        const model = this.model(id);
        if (this.downloads.has(id)) return;
        if (this.state.device.metered && !this.state.settings.use_metered) throw new Refused({ kind: "metered" });
        const missing_bytes = model.file_bytes - this.state.storage.free_bytes;
        if (missing_bytes > 0) throw new Refused({ kind: "storage_short", missing_bytes });
        let done_bytes = "done_bytes" in model.availability ? model.availability.done_bytes : 0;
        this.downloads.add(id);
        const tick = () => {
            if (!this.downloads.has(id)) return;
            const rate_bytes_s = DOWNLOAD_RATE_BYTES_S * this.luck.between(0.8, 1.2);
            done_bytes += (rate_bytes_s * this.options.speed * TICK_MS) / 1000;
            if (this.unsteady && done_bytes > model.file_bytes / 2) {
                this.unsteady = false;
                this.downloads.delete(id);
                const problem: Problem = { kind: "server", host: "models.example", fault: { kind: "breaks_off" } };
                this.change(() => (model.availability = { kind: "failed", problem }));
                return;
            }
            if (done_bytes < model.file_bytes) {
                this.change(() => (model.availability = { kind: "downloading", done_bytes, rate_bytes_s }));
                this.ticks(tick);
                return;
            }
            this.downloads.delete(id);
            this.change(() => (model.availability = { kind: "checking", done_bytes: model.file_bytes }));
            this.after(900, () => {
                this.change((state) => {
                    model.availability = { kind: "here" };
                    state.storage.models_bytes += model.file_bytes;
                    state.storage.free_bytes -= model.file_bytes;
                });
                this.tell({ kind: "download_done", model: model.name });
            });
        };
        tick();
    }

    async pauseDownload(id: string): Promise<void> {
        this.downloads.delete(id);
        const model = this.model(id);
        this.change(() => {
            if (model.availability.kind === "downloading") {
                model.availability = { kind: "paused", done_bytes: model.availability.done_bytes };
            }
        });
    }

    async deleteModel(id: string): Promise<void> {
        const model = this.model(id);
        if (this.state.run?.model === id) throw new Refused({ kind: "busy" });
        this.downloads.delete(id);
        this.change((state) => {
            if (model.availability.kind === "here") {
                state.storage.models_bytes -= model.file_bytes;
                state.storage.free_bytes += model.file_bytes;
            }
            model.availability = { kind: "not_here" };
            if (model.imported) state.models = state.models.filter((other) => other !== model);
        });
    }

    async importModel(): Promise<ImportResult> {
        await this.wait(600);
        const imported: Model = {
            ...this.model("llama1"), id: freshId("imported"), name: "my-finetune.Q4_0.gguf", maker: "", licence: "",
            imported: true, offered: false, availability: { kind: "copying", done_bytes: 0, rate_bytes_s: 0 },
        };
        const missing_bytes = imported.file_bytes - this.state.storage.free_bytes;
        if (missing_bytes > 0) throw new Refused({ kind: "storage_short", missing_bytes });
        this.change((state) => {
            state.models = [...state.models.filter((other) => other.name !== imported.name), imported];
        });
        if (!(await this.copied(imported))) return { kind: "cancelled" };

        this.change((state) => {
            imported.availability = { kind: "here" };
            state.storage.models_bytes += imported.file_bytes;
            state.storage.free_bytes -= imported.file_bytes;
        });
        return { kind: "imported", model: imported.id };
    }

    /** As of a file that a cloud provides. Resolves to whether all has come: not if it was taken out of the list. */
    private copied(model: Model): Promise<boolean> {
        let done_bytes = 0;
        return new Promise((resolve) => {
            const tick = () => {
                if (!this.state.models.includes(model)) return resolve(false);
                const rate_bytes_s = COPY_RATE_BYTES_S * this.luck.between(0.8, 1.2);
                done_bytes += (rate_bytes_s * this.options.speed * TICK_MS) / 1000;
                if (done_bytes >= model.file_bytes) return resolve(true);
                this.change(() => (model.availability = { kind: "copying", done_bytes, rate_bytes_s }));
                this.ticks(tick);
            };
            this.ticks(tick);
        });
    }

    async forecast(id: string): Promise<Forecasts> {
        await this.wait(250);
        const { availability } = this.model(id);
        const holder = availability.kind === "in_group" ? availability.phone : ME.id;
        const phones = this.computing().toSorted((a, b) => Number(b.id === holder) - Number(a.id === holder));
        const resting = this.state.group?.members.filter((member) => !phones.some((phone) => phone.id === member.id)) ?? [];
        return forecasts(this.model(id), phones, resting.map((member) => ({
            phone: member.id,
            reason: { kind: member.excluded ? "excluded" : "unreachable" },
        })));
    }

    async start(id: string): Promise<void> {
        const model = this.model(id);
        if (model.availability.kind !== "here") throw new Refused({ kind: "no_model" });
        const phones = this.computing();
        const expected = outlook(model, phones);
        if (expected.kind === "does_not_fit") throw new Refused({ kind: "memory_short", missing_bytes: expected.missing_bytes });
        if (expected.kind !== "runs") throw new Refused({ kind: "busy" });
        this.change((state) => {
            state.run = {
                model: id, model_name: model.name, n_layers: model.n_layers, stages: expected.stages, head: ME.id,
                forecast: expected.speed, measured: null, queue: [],
                phase: {
                    kind: "preparing",
                    phones: expected.stages.map((stage) => ({
                        phone: stage.phone, step: stage.phone === ME.id ? "loading" : "fetching", done_bytes: 0, left_s: null,
                        total_bytes: Math.round((model.file_bytes * (stage.layers[1] - stage.layers[0])) / model.n_layers),
                        rate_bytes_s: 0,
                        source: stage.phone === ME.id ? { kind: "own_storage" } : { kind: "phone", phone: ME.id },
                    })),
                },
            };
        });
        this.prepare(this.state.run);
    }

    async stop(): Promise<void> {
        for (const conversation of this.answering.keys()) await this.stopAnswer(conversation);
        this.change((state) => (state.run = null));
    }

    // Conversations

    async createConversation(): Promise<string> {
        const conversation: Conversation = { id: freshId("c"), title: "", system_prompt: "", sampling: { ...SAMPLING }, messages: [] };
        this.talks.set(conversation.id, conversation);
        this.change((state) => state.conversations.unshift({ ...summary(conversation), changed_unix_ms: Date.now() }));
        return conversation.id;
    }

    async loadConversation(id: string): Promise<Conversation> {
        return structuredClone(this.talk(id));
    }

    async renameConversation(id: string, title: string): Promise<void> {
        this.talk(id).title = title;
        this.summarise(id);
    }

    async deleteConversation(id: string): Promise<void> {
        await this.stopAnswer(id);
        this.talks.delete(id);
        this.change((state) => (state.conversations = state.conversations.filter((other) => other.id !== id)));
    }

    async deleteMessage(id: string, message: string): Promise<void> {
        const talk = this.talk(id);
        talk.messages = talk.messages.filter((other) => other.id !== message);
        this.summarise(id);
    }

    async configureConversation(id: string, systemPrompt: string, sampling: Sampling): Promise<void> {
        const talk = this.talk(id);
        talk.system_prompt = systemPrompt;
        talk.sampling = sampling;
    }

    async search(query: string): Promise<SearchHit[]> {
        const wanted = query.trim().toLocaleLowerCase();
        const hits: SearchHit[] = [];
        if (wanted === "") return hits;
        for (const talk of this.talks.values()) {
            for (const { id, body } of talk.messages) {
                if (body.kind === "notice") continue;
                const at = body.text.toLocaleLowerCase().indexOf(wanted);
                if (at < 0) continue;
                hits.push({
                    conversation: talk.id, title: talk.title, message: id,
                    before: body.text.slice(Math.max(0, at - 40), at),
                    found: body.text.slice(at, at + wanted.length),
                    after: body.text.slice(at + wanted.length, at + wanted.length + 80),
                });
                if (hits.length === 50) return hits;
            }
        }
        return hits;
    }

    async ask({ conversation, what }: Question, on: (event: AnswerEvent) => void): Promise<void> {
        const talk = this.talk(conversation);
        const run = this.state.run;
        if (run === null) throw new Refused({ kind: "no_model" });
        if (this.answering.has(conversation)) throw new Refused({ kind: "busy" });

        const dropped_from = droppedFrom(talk, what);
        if (dropped_from !== null) {
            talk.messages.splice(talk.messages.findIndex((message) => message.id === dropped_from));
        }
        const added: Message[] = what.kind === "again" ? [] : [question(what.text, this.state.name, Date.now())];
        const message: Answering["message"] = {
            id: freshId("m"), at_unix_ms: Date.now(),
            body: { kind: "answer", text: "", outcome: { kind: "under_way" }, figures: null },
        };
        added.push(message);
        talk.messages.push(...added);
        if (talk.title === "" && what.kind === "new") talk.title = what.text.slice(0, 60);

        const answering: Answering = { message, listeners: new Set([on]), stopped: false };
        this.answering.set(conversation, answering);
        this.summarise(conversation);
        on({ kind: "begun", dropped_from, added: structuredClone(added) });
        void this.answer(conversation, answering);
    }

    async watchAnswer(conversation: string, on: (event: AnswerEvent) => void): Promise<boolean> {
        const answering = this.answering.get(conversation);
        if (answering === undefined) return false;
        const { message, listeners } = answering;
        const begun = { ...message, body: { ...message.body, text: "" } };
        on({ kind: "begun", dropped_from: message.id, added: [begun] });
        if (message.body.text !== "") on({ kind: "text", text: message.body.text });
        listeners.add(on);
        return true;
    }

    async stopAnswer(conversation: string): Promise<void> {
        const answering = this.answering.get(conversation);
        if (answering !== undefined) answering.stopped = true;
    }

    async saveFile(name: string, text: string): Promise<boolean> {
        if (typeof document === "undefined") return false;
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
        link.download = name;
        link.click();
        URL.revokeObjectURL(link.href);
        return true;
    }

    async openLink(url: string): Promise<void> {
        window.open(url, "_blank", "noopener,noreferrer");
    }

    // The script

    private find(): void {
        if (this.state.network.kind !== "ok") return;
        this.around.forEach((phone, i) => this.after(500 + 700 * i, () => this.found(phone)));
    }

    private found(phone: DemoPhone): void {
        if (!this.state.looking || this.state.blocked.some((blocked) => blocked.id === phone.id)) return;
        this.change((state) => {
            if (state.nearby.some((other) => other.id === phone.id)) return;
            const in_my_group = state.group?.members.some((member) => member.id === phone.id) ?? false;
            state.nearby.push({
                id: phone.id, name: phone.name, version: phone.version, in_my_group,
                group_phones: in_my_group ? (state.group?.members.length ?? 0) : phone.group_phones,
            });
        });
    }

    private isAsked(id: string): void {
        const phone = this.neighbour(id);
        this.pairing(id, {
            phone: id, name: phone.name, purpose: "join", asked_by_them: true, code: this.luck.code(), stage: { kind: "compare" },
        });
    }

    private pairing(id: string, pairing: Pairing): void {
        this.change((state) => {
            state.pairings = [...state.pairings.filter((other) => other.phone !== id), pairing];
        });
    }

    private step(id: string, act: (pairing: Pairing) => void): void {
        this.change((state) => {
            const pairing = state.pairings.find((pairing) => pairing.phone === id);
            if (pairing !== undefined) act(pairing);
        });
    }

    private enter(id: string): void {
        const phone = this.neighbour(id);
        this.change((state) => {
            const group = (state.group ??= {
                members: [{ ...asMember(ME), name: state.name }], leader: ME.id, happened: [], leaving: false,
            });
            if (!group.members.some((member) => member.id === id)) group.members.push(asMember(phone));
            state.pairings = state.pairings.filter((pairing) => pairing.phone !== id);
            state.invite = null;
            for (const nearby of state.nearby) if (nearby.id === id) nearby.in_my_group = true;
        });
        this.tell({ kind: "phone_joined", name: phone.name, phones: this.state.group?.members.length ?? 1 });
        this.replan({ kind: "rebalanced", name: phone.name, reason: "newcomer" });
    }

    /** A member leaves or is removed; answers go on with those that stay. */
    private gone(id: string, how: "removed" | "phone_left"): void {
        const name = this.nameOf(id);
        this.change((state) => {
            if (state.group === null) return;
            state.group.members = state.group.members.filter((member) => member.id !== id);
            for (const nearby of state.nearby) if (nearby.id === id) nearby.in_my_group = false;
        });
        const phones = this.state.group?.members.length ?? 1;
        const what: Notice = how === "removed" ? { kind: "removed", name } : { kind: "phone_left", name, phones };
        this.tell(what);
        for (const [conversation, answering] of this.answering) this.note(conversation, answering, what);
        this.replan(what);
    }

    private goAlone(): void {
        this.change((state) => {
            state.group = null;
            state.invite = null;
            for (const nearby of state.nearby) nearby.in_my_group = false;
        });
        const run = this.state.run;
        if (run === null) return;
        const expected = outlook(this.model(run.model), [ME]);
        this.change((state) => {
            if (expected.kind === "runs") runs(state, run.model, [ME]);
            else state.run = null;
        });
        if (expected.kind === "does_not_fit") this.tell({ kind: "too_small", missing_bytes: expected.missing_bytes });
    }

    private replan(reason: Notice): void {
        this.refit();
        const run = this.state.run;
        if (run === null || run.phase.kind === "preparing") return;
        const expected = outlook(this.model(run.model), this.computing());
        if (expected.kind !== "runs") {
            if (expected.kind === "does_not_fit") this.tell({ kind: "too_small", missing_bytes: expected.missing_bytes });
            this.change(() => (run.phase = { kind: "failed", problem: { kind: "memory_short", missing_bytes: expected.kind === "does_not_fit" ? expected.missing_bytes : 0 } }));
            return;
        }
        this.change(() => (run.phase = { kind: "reconfiguring", reason }));
        this.after(1500, () => this.change(() => {
            run.phase = { kind: "ready" };
            run.stages = expected.stages;
            run.forecast = expected.speed;
            run.measured = null;
        }));
    }

    private prepare(run: Run | null): void {
        const tick = () => {
            if (run === null || this.state.run !== run || run.phase.kind !== "preparing") return;
            const { phones } = run.phase;
            this.change(() => {
                const fetching = phones.filter((phone) => phone.step === "fetching").length;
                for (const phone of phones) {
                    const own = phone.source.kind === "own_storage";
                    if (phone.step === "ready") continue;
                    if (phone.step === "checking") {
                        phone.step = "loading";
                    } else if (phone.done_bytes >= phone.total_bytes) {
                        phone.step = phone.step === "fetching" ? "checking" : "ready";
                    } else {
                        phone.rate_bytes_s = own ? 0 : (SHARD_RATE_BYTES_S / fetching) * this.luck.between(0.85, 1.1);
                        const moved = own ? 900e6 : phone.rate_bytes_s;
                        phone.done_bytes = Math.min(phone.total_bytes, phone.done_bytes + (moved * this.options.speed * TICK_MS) / 1000);
                        phone.left_s = own ? null : Math.round((phone.total_bytes - phone.done_bytes) / phone.rate_bytes_s);
                    }
                }
            });
            if (phones.every((phone) => phone.step === "ready")) {
                this.change((state) => runs(state, run.model, this.computing()));
                this.tell({ kind: "model_ready", model: run.model_name, phones: run.stages.length });
            } else {
                this.ticks(tick);
            }
        };
        this.ticks(tick);
    }

    private async answer(conversation: string, answering: Answering): Promise<void> {
        const { message } = answering;
        const queued: QueuedQuestion = { answer: message.id, asker: ME.id, stage: { kind: "waiting", ahead: 0 } };
        this.change((state) => state.run?.queue.push(queued));
        const begun = Date.now();

        await this.inLine(queued, answering);
        const prompt = 60 + this.luck.below(500);
        for (let done = 0; done < prompt && !answering.stopped; done += 128) {
            this.change(() => (queued.stage = { kind: "reading", done, total: prompt }));
            heard(answering, { kind: "reading", done, total: prompt });
            await this.wait(260);
        }
        const ttft_s = ((Date.now() - begun) / 1000) * this.options.speed;
        const tokens = await this.write(conversation, answering, queued);
        const took_s = ((Date.now() - begun) / 1000) * this.options.speed - ttft_s;

        const { run } = this.state;
        message.body.outcome = answering.stopped ? { kind: "stopped" } : { kind: "complete" };
        message.body.figures = {
            model_name: run?.model_name ?? "", ttft_s, tokens_per_s: tokens / Math.max(took_s, 0.001),
            prompt_tokens: prompt, cached_tokens: 0, completion_tokens: tokens, context_tokens: 4096,
            phones: run?.stages.map((stage) => this.nameOf(stage.phone)) ?? [],
            bytes_per_token: 8_200 * Math.max((run?.stages.length ?? 1) - 1, 0) + (run?.stages.length === 1 ? 0 : 8_200),
        };
        this.answering.delete(conversation);
        this.change((state) => {
            if (state.run === null) return;
            state.run.queue = state.run.queue.filter((other) => other !== queued);
            if (!answering.stopped) state.run.measured = { ttft_s, tokens_per_s: tokens / Math.max(took_s, 0.001) };
        });
        if (this.talks.has(conversation)) this.summarise(conversation);
        heard(answering, { kind: "end", message: structuredClone(message) });
        if (this.state.group?.leaving) this.goAlone();
    }

    /** Waits for the questions before. */
    private async inLine(queued: QueuedQuestion, answering: Answering): Promise<void> {
        for (;;) {
            const ahead = this.state.run?.queue.indexOf(queued) ?? 0;
            if (ahead <= 0 || answering.stopped) return;
            this.change(() => (queued.stage = { kind: "waiting", ahead }));
            heard(answering, { kind: "queued", ahead });
            await this.wait(300);
        }
    }

    private async write(conversation: string, answering: Answering, queued: QueuedQuestion): Promise<number> {
        const nth = ++this.answers;
        const text = this.wordsFor(conversation);
        let tokens = 0;
        let at = 0;
        let owed = 0;
        while (at < text.length && !answering.stopped) {
            await this.wait(TEXT_MS);
            const run = this.state.run;
            if (run?.phase.kind === "reconfiguring") continue;
            // A token is about four letters.
            owed += ((run?.forecast?.tokens_per_s ?? 5) * TEXT_MS) / 1000;
            const whole = Math.floor(owed);
            if (whole === 0) continue;
            owed -= whole;
            tokens += whole;
            const piece = text.slice(at, at + whole * 4);
            at += piece.length;
            answering.message.body.text += piece;
            heard(answering, { kind: "text", text: piece });
            this.beat(whole, ME.id);
            this.change(() => (queued.stage = { kind: "writing", tokens }));
            const halfway = at > text.length / 2 && at - piece.length <= text.length / 2;
            if (this.options.events && nth === 2 && halfway && this.isMember("sam")) {
                this.gone("sam", "phone_left");
            }
        }
        return tokens;
    }

    private wordsFor(conversation: string): string {
        const last = this.talk(conversation).messages.findLast(({ body }) => body.kind === "question")?.body;
        const asked = last?.kind === "question" ? last.text : "";
        return ANSWERS.find(([about]) => about.test(asked))?.[1] ?? this.luck.pick([GREETING, SKY, TRIP]);
    }

    /** Others ask now and then, so that the ring is seen to be everybody's. */
    private others(): void {
        this.after(25_000 + this.luck.between(0, 20_000), () => {
            this.others();
            const asker = this.state.group?.members.find((member) => member.id !== ME.id && member.presence === "here");
            const run = this.state.run;
            if (asker === undefined || run?.phase.kind !== "ready") return;
            const queued: QueuedQuestion = { answer: freshId("m"), asker: asker.id, stage: { kind: "reading", done: 0, total: 80 } };
            this.change(() => run.queue.push(queued));
            let tokens = 0;
            const tick = () => {
                tokens += 1;
                this.beat(1, asker.id);
                this.change((state) => {
                    queued.stage = { kind: "writing", tokens };
                    if (tokens === 40 && state.run !== null) state.run.queue = state.run.queue.filter((other) => other !== queued);
                });
                if (tokens < 40) this.after(150, tick);
            };
            this.after(600, tick);
        });
    }

    private note(conversation: string, answering: Answering, what: Notice): void {
        const message: Message = { id: freshId("m"), at_unix_ms: Date.now(), body: { kind: "notice", what } };
        const messages = this.talk(conversation).messages;
        messages.splice(messages.indexOf(answering.message), 0, message);
        heard(answering, { kind: "notice", message });
    }

    private beat(tokens: number, asker: string): void {
        const lap_ms = 1000 / (this.state.run?.forecast?.tokens_per_s ?? 5);
        for (const listener of this.beatListeners) listener({ tokens, lap_ms, asker });
    }

    private tell(what: Notice): void {
        this.change((state) => {
            state.group?.happened.push({ at_unix_ms: Date.now(), what });
            state.group?.happened.splice(0, state.group.happened.length - HAPPENED_MAX);
        });
        for (const listener of this.noticeListeners) listener(structuredClone(what));
    }

    // Looking things up

    /** Phones that take part in computing, this one first: it holds the ends. */
    private computing(): DemoPhone[] {
        const members = this.state.group?.members.filter((member) => !member.excluded && member.presence === "here");
        const ids = new Set(members?.map((member) => member.id));
        return [ME, ...this.around.filter((phone) => ids.has(phone.id))];
    }

    private refit(): void {
        this.change((state) => {
            for (const model of state.models) {
                const fit = (phones: DemoPhone[]): Model["fits_here"] => {
                    const room = phones.reduce((sum, phone) => sum + phone.free_memory_bytes, 0);
                    if (room < model.needed_bytes) return { kind: "too_big", missing_bytes: model.needed_bytes - room };
                    return { kind: model.needed_bytes > 0.9 * room ? "tight" : "fits" };
                };
                model.fits_here = fit([ME]);
                model.fits_group = state.group === null ? null : fit(this.computing());
            }
        });
    }

    private isMember(id: string): boolean {
        return this.state.group?.members.some((member) => member.id === id) ?? false;
    }

    private led(): void {
        if (this.state.group?.leader !== ME.id) throw new Refused({ kind: "not_leader" });
    }

    private neighbour(id: string): DemoPhone {
        const phone = this.around.find((phone) => phone.id === id);
        if (phone === undefined) throw new Refused({ kind: "unreachable" } satisfies Problem);
        return phone;
    }

    private nameOf(id: string): string {
        if (id === ME.id) return this.state.name;
        return this.around.find((phone) => phone.id === id)?.name ?? id;
    }

    private model(id: string): Model {
        const model = this.state.models.find((model) => model.id === id);
        if (model === undefined) throw new Refused({ kind: "no_model" });
        return model;
    }

    private talk(id: string): Conversation {
        const talk = this.talks.get(id);
        if (talk === undefined) throw new Refused({ kind: "other", detail: `no conversation ${id}` });
        return talk;
    }

    private summarise(id: string): void {
        const conversation = this.talk(id);
        this.change((state) => {
            const others = state.conversations.filter((other) => other.id !== id);
            const fresh = { ...summary(conversation), answering: this.answering.has(id) };
            if (fresh.changed_unix_ms === 0) fresh.changed_unix_ms = Date.now();
            state.conversations = [...others, fresh].sort((a, b) => b.changed_unix_ms - a.changed_unix_ms);
        });
    }

    // Time, and telling

    /** Changes the state, and shows it once when the caller is done. */
    private change(act: (state: AppState) => void): void {
        act(this.state);
        if (this.emitting) return;
        this.emitting = true;
        queueMicrotask(() => {
            this.emitting = false;
            for (const listener of this.stateListeners) listener(structuredClone(this.state));
        });
    }

    private after(ms: number, act: () => void): void {
        setTimeout(act, ms / this.options.speed);
    }

    /** Not faster in a faster demo: more is done in each. */
    private ticks(act: () => void): void {
        setTimeout(act, TICK_MS);
    }

    private wait(ms: number): Promise<void> {
        return new Promise((resolve) => this.after(ms, resolve));
    }
}

/**
 * The demo that an address asks for: `?demo=group` (one of {@link SCENARIOS}), `&seed=7`, `&speed=4`, and `&calm` for phones
 * that do nothing by themselves.
 */
export function demoFrom(wanted: URLSearchParams): DemoBackend {
    return new DemoBackend({
        scenario: SCENARIOS.find((scenario) => scenario === wanted.get("demo")) ?? "fresh",
        seed: Number(wanted.get("seed") ?? 1) || 1,
        speed: Math.min(Math.max(Number(wanted.get("speed") ?? 1) || 1, 0.1), 100),
        events: !wanted.has("calm"),
    });
}

/** The first message that goes when a question is asked anew. */
function droppedFrom(talk: Conversation, what: Question["what"]): string | null {
    switch (what.kind) {
        case "new":
            return null;
        case "edit":
            return what.message;
        case "again": {
            const last = talk.messages.findLastIndex(({ body }) => body.kind === "question");
            return talk.messages[last + 1]?.id ?? null;
        }
    }
}

function heard(answering: Answering, event: AnswerEvent): void {
    for (const listener of answering.listeners) listener(event);
}

function joined<T>(listeners: Set<T>, listener: T): Unsubscribe {
    listeners.add(listener);
    return () => void listeners.delete(listener);
}
