/** The phones of the demo, and what would come of a model on them. */
import type { Forecasts } from "../../bindings/Forecasts";
import type { Heat } from "../../bindings/Heat";
import type { Help } from "../../bindings/Help";
import type { Member } from "../../bindings/Member";
import type { Model } from "../../bindings/Model";
import type { Outlook } from "../../bindings/Outlook";
import type { PhoneId } from "../../bindings/PhoneId";
import type { Stage } from "../../bindings/Stage";
import type { Verdict } from "../../bindings/Verdict";
import type { VersionMatch } from "../../bindings/VersionMatch";

export const GB = 1e9;

export interface DemoPhone {
    id: PhoneId;
    name: string;
    total_memory_bytes: number;
    free_memory_bytes: number;
    /** Weights that it reads a second while decoding: what limits speed on a phone. Typical of its class. */
    reads_bytes_s: number;
    rtt_ms: number;
    battery: number;
    charging: boolean;
    heat: Heat;
    version: VersionMatch;
    group_phones: number;
}

const phone = (id: string, name: string, over: Partial<DemoPhone>): DemoPhone => ({
    id, name,
    total_memory_bytes: 8 * GB, free_memory_bytes: 3.1 * GB, reads_bytes_s: 16 * GB, rtt_ms: 9,
    battery: 0.8, charging: false, heat: "cool", version: "same", group_phones: 0,
    ...over,
});

export const ME: DemoPhone = phone("me", "Mira’s phone", {
    total_memory_bytes: 8 * GB, free_memory_bytes: 2.6 * GB, reads_bytes_s: 15 * GB, battery: 0.64, rtt_ms: 0,
});

/** In the order in which they are found. */
export const NEIGHBOURS: DemoPhone[] = [
    phone("anna", "Anna’s Pixel", { free_memory_bytes: 3.4 * GB, reads_bytes_s: 19 * GB, battery: 0.91, charging: true }),
    phone("sam", "Sam", { total_memory_bytes: 6 * GB, free_memory_bytes: 1.9 * GB, reads_bytes_s: 11 * GB, battery: 0.38, heat: "warm", rtt_ms: 14 }),
    phone("jo", "Jo’s tablet", { total_memory_bytes: 12 * GB, free_memory_bytes: 5.2 * GB, reads_bytes_s: 22 * GB, battery: 0.72, rtt_ms: 7, group_phones: 2 }),
    phone("old", "Grandpa’s phone", { total_memory_bytes: 4 * GB, free_memory_bytes: 0.9 * GB, reads_bytes_s: 6 * GB, version: "theirs_older" }),
];

/** For a larger group. */
export const MORE: DemoPhone[] = [
    phone("lea", "Léa", { free_memory_bytes: 2.8 * GB, battery: 0.55 }),
    phone("noor", "نور", { free_memory_bytes: 3.6 * GB, reads_bytes_s: 21 * GB, battery: 0.97, charging: true }),
    phone("max", "Maximilian’s old work phone", { free_memory_bytes: 2.2 * GB, reads_bytes_s: 9 * GB, battery: 0.17, heat: "hot" }),
];

/** Names that somebody might choose to do harm. */
export const HOSTILE_NAMES = [
    `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`,
    "\u202Eenohp s'nimdA\u202C \u2067abc",
    "Z\u0351\u0357\u030D\u0346\u033F\u033E\u0300\u0301\u0302\u0303\u0304\u0305alg\u0351\u0357\u030D\u0346\u033F\u033Eo".repeat(40),
    "A\u0000\u0007\u001B[31mB\nC" + "W".repeat(100_000),
];

const model = (id: string, name: string, maker: string, over: Partial<Model>): Model => ({
    id, name, maker,
    architecture: "llama", quantisation: "Q4_0", licence: "Apache-2.0",
    parameters: 1.24e9, n_layers: 16, context_tokens: 8192, file_bytes: 0.77 * GB, needed_bytes: 1.1 * GB,
    languages: ["en", "de", "fr", "es"], imported: false, offered: true,
    availability: { kind: "not_here" }, fits_here: { kind: "fits" }, fits_group: null,
    ...over,
});

export const MODELS: Model[] = [
    model("smol", "SmolLM2 135M", "Hugging Face", { quantisation: "Q4_1", parameters: 135e6, n_layers: 30, file_bytes: 98e6, needed_bytes: 0.21 * GB, languages: ["en"], context_tokens: 2048 }),
    model("gemma270", "Gemma 3 270M", "Google", { architecture: "gemma3", quantisation: "Q4_K_M", licence: "Gemma", parameters: 268e6, n_layers: 18, file_bytes: 253e6, needed_bytes: 0.42 * GB, languages: ["en", "de", "fr"], context_tokens: 32768 }),
    model("llama1", "Llama 3.2 1B", "Meta", { licence: "Llama 3.2", context_tokens: 131072 }),
    model("llama3", "Llama 3.2 3B", "Meta", { licence: "Llama 3.2", parameters: 3.21e9, n_layers: 28, file_bytes: 1.92 * GB, needed_bytes: 2.5 * GB, context_tokens: 131072 }),
    model("qwen8", "Qwen3 8B", "Alibaba", { architecture: "qwen3", parameters: 8.19e9, n_layers: 36, file_bytes: 4.77 * GB, needed_bytes: 5.6 * GB, languages: ["en", "de", "zh", "fr"], context_tokens: 40960 }),
    model("qwen14", "Qwen3 14B", "Alibaba", { architecture: "qwen3", parameters: 14.8e9, n_layers: 40, file_bytes: 8.5 * GB, needed_bytes: 9.7 * GB, languages: ["en", "de", "zh", "fr"], context_tokens: 40960 }),
];

export function asMember(of: DemoPhone): Member {
    return {
        id: of.id, name: of.name, presence: "here", excluded: false, tired: null,
        free_memory_bytes: of.free_memory_bytes, total_memory_bytes: of.total_memory_bytes,
        layers_per_s: null, battery: of.battery, charging: of.charging, heat: of.heat,
        rtt_ms: of.rtt_ms === 0 ? null : of.rtt_ms, layers_computed: 0,
    };
}

/** Words of the prompt that forecasts are for. */
const PROMPT_TOKENS = 128;

/** Prefill reads weights once for a chunk: tokens side by side, compared with one at a time. A guess. */
const PREFILL_GAIN = 8;

/**
 * What to expect of `model` on `phones`, the first of which is the head.
 *
 * A stand-in for the real placement (`proto`'s `solve`): every phone gets layers in proportion to how fast it reads, as
 * far as its memory goes; what takes the head less time than a lap of the ring, it runs alone.
 */
export function outlook(model: Model, phones: DemoPhone[]): Outlook {
    const room = phones.reduce((sum, phone) => sum + phone.free_memory_bytes, 0);
    if (room < model.needed_bytes) {
        const missing_bytes = model.needed_bytes - room;
        const helps: Help[] = [
            { kind: "another_phone", bytes: missing_bytes },
            { kind: "smaller_model", bytes: missing_bytes },
        ];
        return { kind: "does_not_fit", missing_bytes, helps };
    }
    const [head] = phones;
    const hops_ms = hops(phones);
    if (head !== undefined && reading(model, head) < hops_ms && model.needed_bytes < head.free_memory_bytes) {
        return outlook(model, [head]);
    }
    const stages = layersOf(model, phones).map(({ phone, layers }): Stage => ({
        phone: phone.id,
        layers,
        ms_per_token: round((reading(model, phone) * (layers[1] - layers[0])) / model.n_layers),
    }));
    const compute_ms = stages.reduce((sum, stage) => sum + (stage.ms_per_token ?? 0), 0);
    const busiest = stages.reduce((a, b) => ((b.ms_per_token ?? 0) > (a.ms_per_token ?? 0) ? b : a));
    return {
        kind: "runs",
        speed: {
            tokens_per_s: round(1000 / (compute_ms + hops_ms)),
            ttft_s: round((compute_ms * PROMPT_TOKENS) / PREFILL_GAIN / 1000 + hops_ms / 1000),
        },
        stages,
        slowest: busiest.phone,
        fetch_bytes: Math.round(model.file_bytes * (1 - 1 / phones.length)),
    };
}

/** What a lap of the ring takes beside computing, in ms. */
function hops(phones: DemoPhone[]): number {
    return phones.length === 1 ? 0 : phones.reduce((sum, phone) => sum + phone.rtt_ms, 0) / 2 + 4;
}

/** How long a phone takes to read all weights, in ms. */
function reading(model: Model, phone: DemoPhone): number {
    return (model.file_bytes * 1000) / phone.reads_bytes_s;
}

/** Layers in ring order, the head first; faster phones get more, none more than it has room for. */
function layersOf(model: Model, phones: DemoPhone[]): Array<{ phone: DemoPhone; layers: [number, number] }> {
    const perLayer = model.needed_bytes / model.n_layers;
    const fits = phones.map((phone) => Math.floor(phone.free_memory_bytes / perLayer));
    const fast = phones.reduce((sum, phone) => sum + phone.reads_bytes_s, 0);
    const counts = phones.map((phone, i) => Math.min(fits[i] ?? 0, Math.round((model.n_layers * phone.reads_bytes_s) / fast)));
    let left = model.n_layers - counts.reduce((a, b) => a + b, 0);
    for (let i = 0; left !== 0; i = (i + 1) % phones.length) {
        const step = Math.sign(left);
        const count = (counts[i] ?? 0) + step;
        if (count >= 0 && (step < 0 || count <= (fits[i] ?? 0) + 1)) {
            counts[i] = count;
            left -= step;
        }
    }
    let start = 0;
    return phones.map((phone, i) => {
        const layers: [number, number] = [start, start + (counts[i] ?? 0)];
        start = layers[1];
        return { phone, layers };
    });
}

/** `phones` begins with the one that has the model. `resting` says why members are not among them. */
export function forecasts(model: Model, phones: DemoPhone[], resting: Verdict[]): Forecasts {
    const [head, ...others] = phones;
    if (head === undefined) throw new Error("a group has at least this phone");
    const group = outlook(model, phones);
    const stages = group.kind === "runs" ? group.stages : [];
    return {
        group,
        alone: outlook(model, [head]),
        without: others.filter((other) => stages.length === 0 || stages.some((stage) => stage.phone === other.id)).map((other) => ({
            phone: other.id,
            outlook: outlook(model, phones.filter((phone) => phone !== other)),
        })),
        verdicts: group.kind === "runs" ? [...phones.map((phone) => verdict(phone, stages)), ...resting] : [],
    };
}

function verdict(of: DemoPhone, stages: Stage[]): Verdict {
    const stage = stages.find((stage) => stage.phone === of.id);
    return {
        phone: of.id,
        reason: stage === undefined ? { kind: "would_add", ms_per_token: of.rtt_ms } : { kind: "runs", ms_per_token: stage.ms_per_token ?? 0 },
    };
}

function round(value: number): number {
    return Math.round(value * 100) / 100;
}
