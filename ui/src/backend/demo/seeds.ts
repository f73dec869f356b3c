/** Where a demo begins: states by name. */
import type { AppState } from "../../bindings/AppState";
import type { Conversation } from "../../bindings/Conversation";
import type { Figures } from "../../bindings/Figures";
import type { Message } from "../../bindings/Message";
import type { Notice } from "../../bindings/Notice";
import type { Pairing } from "../../bindings/Pairing";
import type { PairingEnd } from "../../bindings/PairingEnd";
import type { Sampling } from "../../bindings/Sampling";
import { GB, HOSTILE_NAMES, ME, MODELS, MORE, NEIGHBOURS, asMember, outlook, type DemoPhone } from "./phones";
import { CODE, GREETING, HOSTILE, QUESTIONS, SKY, TABLE, TRIP } from "./words";

export const SCENARIOS = [
    "fresh", "nearby", "asked", "group", "preparing", "solo", "long", "hostile", "no_wifi", "no_permission", "isolated",
    "too_big", "many", "damaged", "reloaded", "unsteady", "unheard",
    "ended", "invited", "failed",
] as const;
export type Scenario = (typeof SCENARIOS)[number];

export interface Seed {
    state: AppState;
    conversations: Map<string, Conversation>;
    /** Phones that discovery will find. */
    around: DemoPhone[];
    /** What whoever listens first is told at once. */
    toldFirst: Notice[];
}

/** Messages of the long conversation: what has to scroll at 60 frames a second. */
export const LONG_MESSAGES = 2000;

/** A link and a code as phones make them; the secret is nobody's. */
export const DEMO_LINK = "lingualinked://join?v=1&g=8c1f0b6a52d94e7d&h=12D3KooWQ7m1x&s=Zk3vT9pLq2E&a=/ip4/192.168.1.23/tcp/41917";
export const DEMO_CODE = "7KQF-2M9X-HB4T-W3RC-8PZN-5VDJ";

/** How pairings with the neighbours ended. */
const ENDS: PairingEnd[] = ["declined", "unreachable", "bad_code", "other_version"];

export const SAMPLING: Sampling = {
    temperature: 0.7, top_k: 40, top_p: 0.95, min_p: 0.05, repetition_penalty: 1.05, seed: null, max_tokens: 1024,
};

export function seed(scenario: Scenario, now: number): Seed {
    const start: Seed = { state: alone(), conversations: new Map(), around: structuredClone(NEIGHBOURS), toldFirst: [] };
    const { state } = start;
    if (scenario === "fresh") return start;
    state.welcomed = true;
    state.name = ME.name;
    state.permissions = state.permissions.map((permission) => ({ ...permission, status: "granted" }));

    switch (scenario) {
        case "nearby":
        case "asked":
        case "unsteady":
        case "unheard":
            break;
        case "ended":
            state.pairings = start.around.map(({ id, name }, i): Pairing => ({
                phone: id, name, purpose: "join", asked_by_them: false, code: null, stage: { kind: "ended", end: ENDS[i] ?? "declined" },
            }));
            break;
        case "invited":
            grouped(start, 2, now);
            state.opened_invite = DEMO_LINK;
            state.invite = { link: DEMO_LINK, typed_code: DEMO_CODE, expires_unix_ms: now - 1000 };
            break;
        case "failed":
            state.network = { kind: "failed", detail: "cannot listen: address already in use" };
            start.around = [];
            break;
        case "no_wifi":
        case "isolated":
            state.network = { kind: scenario };
            start.around = [];
            break;
        case "no_permission":
            state.network = { kind: "no_permission" };
            state.permissions = [{ kind: "local_network", status: "denied" }, { kind: "camera", status: "not_asked" }];
            start.around = [];
            break;
        case "solo":
            has(state, "llama1");
            runs(state, "llama1", [ME]);
            talk(start, now);
            cutTalk(start, now);
            break;
        case "damaged":
            for (const permission of state.permissions) if (permission.kind === "camera") permission.status = "denied";
            model(state, "llama3").availability = { kind: "failed", problem: { kind: "server", host: "models.example", fault: { kind: "wrong_length" } } };
            model(state, "gemma270").availability = { kind: "paused", done_bytes: 104e6 };
            state.models.push({
                ...model(state, "llama1"), id: "gone", name: "my-finetune.Q4_0.gguf", maker: "", licence: "", imported: true,
                availability: { kind: "failed", problem: { kind: "file_gone", name: "my-finetune.Q4_0.gguf" } },
            });
            start.toldFirst = [{ kind: "history_set_aside", path: "/data/user/0/app.lingualinked/history.db-damaged-1764172800000" }];
            break;
        case "too_big":
            has(state, "qwen14");
            grouped(start, 2, now);
            break;
        case "preparing":
            has(state, "llama3");
            grouped(start, 3, now);
            break;
        case "hostile":
            start.around.forEach((phone, i) => (phone.name = HOSTILE_NAMES[i] ?? phone.name));
            has(state, "llama3");
            grouped(start, 3, now);
            runs(state, "llama3", membersOf(start));
            talk(start, now);
            hostileTalk(start, now);
            break;
        case "group":
        case "reloaded":
            has(state, "llama3");
            grouped(start, 3, now);
            runs(state, "llama3", membersOf(start));
            talk(start, now);
            break;
        case "many":
            start.around = [...start.around.filter((phone) => phone.version === "same"), ...MORE.map((phone) => structuredClone(phone))];
            has(state, "qwen14");
            grouped(start, 7, now);
            model(state, "gemma270").availability = { kind: "in_group", phone: membersOf(start)[1]?.id ?? "" };
            runs(state, "qwen14", membersOf(start));
            talk(start, now);
            break;
        case "long":
            has(state, "llama3");
            grouped(start, 3, now);
            runs(state, "llama3", membersOf(start));
            longTalk(start, now);
            break;
    }
    return start;
}

function alone(): AppState {
    return {
        name: "", me: ME.id, app_version: "0.1.0", welcomed: false,
        permissions: [
            { kind: "local_network", status: "not_asked" },
            { kind: "camera", status: "not_asked" },
            { kind: "notifications", status: "not_asked" },
        ],
        network: { kind: "ok" },
        device: {
            free_memory_bytes: ME.free_memory_bytes, memory_budget_bytes: 3.2 * GB, total_memory_bytes: ME.total_memory_bytes,
            battery: ME.battery, charging: false, heat: "cool", power_save: false, metered: false,
        },
        tells_metered: true,
        looking: false, nearby: [], pairings: [], invite: null, opened_invite: null, blocked: [],
        group: null, run: null,
        models: structuredClone(MODELS),
        storage: { models_bytes: 0, shards_bytes: 0, conversations_bytes: 180_000, free_bytes: 31 * GB, quota_bytes: 16 * GB },
        conversations: [],
        settings: {
            memory_limit_bytes: null, battery_floor: 0.2, only_while_charging: false, use_metered: false,
            storage_quota_bytes: 16 * GB, keep_screen_on: true, visible: true,
        },
    };
}

function model(state: AppState, id: string): AppState["models"][number] {
    const model = state.models.find((model) => model.id === id);
    if (model === undefined) throw new Error(`no model ${id}`);
    return model;
}

function has(state: AppState, id: string): void {
    const { file_bytes } = model(state, id);
    model(state, id).availability = { kind: "here" };
    state.storage.models_bytes += file_bytes;
}

function grouped(start: Seed, phones: number, now: number): void {
    const members = [ME, ...start.around.slice(0, phones - 1)];
    start.state.group = {
        members: members.map(asMember),
        leader: ME.id,
        happened: members.slice(1).map((phone, i) => ({
            at_unix_ms: now - 600_000 + i * 60_000,
            what: { kind: "phone_joined", name: phone.name, phones: i + 2 },
        })),
        leaving: false,
    };
}

function membersOf(start: Seed): DemoPhone[] {
    const ids = new Set(start.state.group?.members.map((member) => member.id));
    return [ME, ...start.around].filter((phone) => ids.has(phone.id));
}

export function runs(state: AppState, id: string, phones: DemoPhone[]): void {
    const { name, n_layers } = model(state, id);
    const expected = outlook(model(state, id), phones);
    if (expected.kind !== "runs") throw new Error(`${id} does not fit`);
    state.run = {
        model: id, model_name: name, n_layers,
        phase: { kind: "ready" },
        stages: expected.stages, head: ME.id,
        forecast: expected.speed, measured: null, queue: [],
    };
    for (const member of state.group?.members ?? []) {
        const stage = expected.stages.find((stage) => stage.phone === member.id);
        if (stage?.ms_per_token) member.layers_per_s = Math.round(((stage.layers[1] - stage.layers[0]) * 1000) / stage.ms_per_token);
    }
}

function figures(phones: string[], tokens: number): Figures {
    return {
        model_name: "Llama 3.2 3B", ttft_s: 1.3, tokens_per_s: 6.9, prompt_tokens: 212, cached_tokens: 180,
        completion_tokens: tokens, context_tokens: 4096, phones, bytes_per_token: 24_700,
    };
}

let made = 0;
export function freshId(kind: string): string {
    return `${kind}-${++made}`;
}

export function question(text: string, asker: string, at_unix_ms: number): Message {
    return { id: freshId("m"), at_unix_ms, body: { kind: "question", text, asker } };
}

function answer(text: string, at_unix_ms: number, phones: string[]): Message {
    const tokens = Math.round(text.length / 4);
    return { id: freshId("m"), at_unix_ms, body: { kind: "answer", text, outcome: { kind: "complete" }, figures: figures(phones, tokens) } };
}

function keep(start: Seed, conversation: Conversation): void {
    start.conversations.set(conversation.id, conversation);
    start.state.conversations.push(summary(conversation));
    start.state.conversations.sort((a, b) => b.changed_unix_ms - a.changed_unix_ms);
}

export function summary(conversation: Conversation): AppState["conversations"][number] {
    const last = conversation.messages.at(-1);
    const text = conversation.messages.findLast(({ body }) => body.kind !== "notice")?.body;
    return {
        id: conversation.id, title: conversation.title,
        preview: text !== undefined && text.kind !== "notice" ? text.text.slice(0, 200) : "",
        changed_unix_ms: last?.at_unix_ms ?? 0, n_messages: conversation.messages.length, answering: false,
    };
}

function talk(start: Seed, now: number): void {
    const names = membersOf(start).map((phone) => phone.name);
    const minute = 60_000;
    keep(start, {
        id: "ring", title: "How a ring works", system_prompt: "", sampling: SAMPLING,
        messages: [
            question("Hi! Who are you?", ME.name, now - 30 * minute),
            answer(GREETING, now - 29 * minute, names),
            question(QUESTIONS[1] ?? "", ME.name, now - 14 * minute),
            { id: freshId("m"), at_unix_ms: now - 14 * minute, body: { kind: "notice", what: { kind: "phone_joined", name: start.around[1]?.name ?? "", phones: 3 } } },
            answer(CODE, now - 13 * minute, names),
        ],
    });
    keep(start, {
        id: "sky", title: "Why is the sky blue?", system_prompt: "", sampling: SAMPLING,
        messages: [question("Why is the sky blue?", ME.name, now - 26 * 60 * minute), answer(SKY, now - 26 * 60 * minute, names)],
    });
    keep(start, {
        id: "trip", title: "Saturday in the hills", system_prompt: "Answer briefly. We like to walk, and have no car.", sampling: SAMPLING,
        messages: [question("Plan a walk for Saturday", ME.name, now - 3 * 24 * 60 * minute), answer(TRIP, now - 3 * 24 * 60 * minute, names)],
    });
}

/** The app was killed while it answered. */
function cutTalk(start: Seed, now: number): void {
    const at = now - 2 * 24 * 60 * 60_000;
    keep(start, {
        id: "cut", title: "A greeting", system_prompt: "", sampling: SAMPLING,
        messages: [
            question("Hi! Who are you?", ME.name, at),
            { id: freshId("m"), at_unix_ms: at, body: { kind: "answer", text: GREETING.slice(0, 40), outcome: { kind: "app_ended" }, figures: null } },
        ],
    });
}

function longTalk(start: Seed, now: number): void {
    const texts = [SKY, CODE, TABLE, TRIP, GREETING];
    const messages: Message[] = [];
    for (let i = 0; i < LONG_MESSAGES; i += 2) {
        const at = now - (LONG_MESSAGES - i) * 30_000;
        messages.push(question(`${i / 2 + 1}. ${QUESTIONS[(i / 2) % QUESTIONS.length]}`, ME.name, at));
        messages.push(answer(texts[(i / 2) % texts.length] ?? "", at + 9_000, [ME.name]));
    }
    keep(start, { id: "long", title: "A long conversation", system_prompt: "", sampling: SAMPLING, messages });
}

function hostileTalk(start: Seed, now: number): void {
    const name = HOSTILE_NAMES[0] ?? "";
    keep(start, {
        id: "hostile", title: HOSTILE_NAMES[3] ?? "", system_prompt: "", sampling: SAMPLING,
        messages: [
            question(`${name} \u202Eabc`, name, now - 60_000),
            { id: freshId("m"), at_unix_ms: now - 50_000, body: { kind: "notice", what: { kind: "phone_left", name: HOSTILE_NAMES[1] ?? "", phones: 3 } } },
            answer(HOSTILE, now - 40_000, HOSTILE_NAMES),
        ],
    });
}
