import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { AnswerEvent } from "../../bindings/AnswerEvent";
import type { AppState } from "../../bindings/AppState";
import { DemoBackend } from "./demo";
import { DEMO_CODE, DEMO_LINK, SCENARIOS, type Scenario } from "./seeds";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

interface Watched {
    backend: DemoBackend;
    state: () => AppState;
}

function demo(scenario: Scenario, seed = 1, events = false): Watched {
    const backend = new DemoBackend({ scenario, seed, speed: 1, events });
    let last: AppState | undefined;
    backend.watch((state) => (last = state));
    return {
        backend,
        state: () => {
            if (last === undefined) throw new Error("`watch` did not call at once");
            return last;
        },
    };
}

/** Lets everything happen that is due within `ms`. */
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

async function answer({ backend }: Watched, conversation: string, text: string, ms = 120_000): Promise<AnswerEvent[]> {
    const heard: AnswerEvent[] = [];
    await backend.ask({ conversation, what: { kind: "new", text } }, (event) => heard.push(event));
    await pass(ms);
    return heard;
}

test.each(SCENARIOS)("%s begins", (scenario) => {
    const { state } = demo(scenario);

    expect(state().welcomed).toBe(scenario !== "fresh");
});

test("what is handed out is a copy", async () => {
    const { backend, state } = demo("group");
    state().name = "spoilt";

    await backend.stop();
    await pass(0);

    expect(state().name).toBe("Mira’s phone");
});

describe("people", () => {
    test("phones appear while one looks, and only then", async () => {
        const { backend, state } = demo("nearby");
        await pass(10_000);
        expect(state().nearby).toEqual([]);

        await backend.look(true);
        await pass(10_000);
        expect(state().nearby.map((phone) => phone.id)).toEqual(["anna", "sam", "jo", "old"]);
    });

    test("two who compare a code are in one group", async () => {
        const { backend, state } = demo("nearby");

        await backend.pair("anna", "invite");
        await pass(1000);
        expect(state().pairings[0]).toMatchObject({ stage: { kind: "compare" }, code: expect.stringMatching(/^\d{3} \d{3}$/) });

        await backend.confirm("anna");
        await pass(500);
        expect(state().pairings[0]?.stage.kind).toBe("agreed_here");

        await pass(3000);
        expect(state().pairings).toEqual([]);
        expect(state().group?.members.map((member) => member.id)).toEqual(["me", "anna"]);
    });

    test("nobody comes in who was refused", async () => {
        const { backend, state } = demo("asked");
        await pass(1000);
        expect(state().pairings[0]?.asked_by_them).toBe(true);

        await backend.refuse("anna");
        await pass(10_000);
        expect(state().group).toBeNull();
    });

    test.each([
        [DEMO_LINK, null],
        [DEMO_CODE, null],
        [` ${DEMO_CODE.toLowerCase().replaceAll("-", " ")} `, null],
        [DEMO_CODE.replace("7", "8"), "mistyped"],
        ["https://example.org", "not_a_link"],
        [DEMO_LINK.replace("v=1", "v=2"), "other_version"],
    ])("%j leads into a group, or is refused as %s", async (text, kind) => {
        const { backend, state } = demo("nearby");

        const used = backend.useInvite(text);
        if (kind === null) await used;
        else await expect(used).rejects.toMatchObject({ problem: { kind } });
        await pass(2000);

        expect(state().group !== null).toBe(kind === null);
    });

    test("another version is refused with a reason", async () => {
        await expect(demo("nearby").backend.pair("old", "invite")).rejects.toMatchObject({ problem: { kind: "other_version" } });
    });

    test("only the leader removes", async () => {
        const { backend, state } = demo("group");
        await backend.handOver("anna");

        await expect(backend.remove("sam")).rejects.toMatchObject({ problem: { kind: "not_leader" } });
        expect(state().group?.members).toHaveLength(3);
    });
});

describe("models", () => {
    test("a download goes on where it was paused", async () => {
        const { backend, state } = demo("nearby");
        const model = () => state().models.find((model) => model.id === "llama1")?.availability;

        await backend.download("llama1");
        await pass(10_000);
        await backend.pauseDownload("llama1");
        await pass(10_000);
        const paused = model();
        expect(paused?.kind).toBe("paused");

        await backend.download("llama1");
        await pass(200);
        const resumed = model();
        expect(resumed?.kind === "downloading" && paused?.kind === "paused" && resumed.done_bytes > paused.done_bytes).toBe(true);

        await pass(120_000);
        expect(model()).toEqual({ kind: "here" });
    });

    test("an import is seen being copied, and one that is stopped leaves nothing", async () => {
        const { backend, state } = demo("nearby");
        const before = state();
        const imported = () => state().models.find((model) => model.imported);
        const stopped = backend.importModel();
        await pass(1500);
        expect(imported()?.availability).toMatchObject({ kind: "copying", done_bytes: expect.any(Number) });

        await backend.deleteModel(imported()?.id ?? "");
        await pass(1000);
        await expect(stopped).resolves.toEqual({ kind: "cancelled" });
        expect(state()).toEqual(before);

        const whole = backend.importModel();
        await pass(60_000);
        await expect(whole).resolves.toEqual({ kind: "imported", model: imported()?.id });
        expect(imported()?.availability).toEqual({ kind: "here" });
    });

    test("shards reach every phone, and then it is ready", async () => {
        const { state } = demo("preparing");
        await pass(1000);
        const run = state().run;
        const phones = run?.phase.kind === "preparing" ? run.phase.phones : [];
        expect(phones.map((phone) => phone.source.kind)).toEqual(["own_storage", "phone", "phone"]);

        await pass(120_000);
        expect(state().run?.phase.kind).toBe("ready");
    });

    test("a forecast covers every layer once, in order", async () => {
        const { backend, state } = demo("many");
        const found = backend.forecast("qwen14");
        await pass(1000);
        const { group, alone, without } = await found;

        const stages = group.kind === "runs" ? group.stages : [];
        expect(stages[0]?.layers[0]).toBe(0);
        expect(stages.at(-1)?.layers[1]).toBe(state().models.find((model) => model.id === "qwen14")?.n_layers);
        stages.slice(1).forEach((stage, i) => expect(stage.layers[0]).toBe(stages[i]?.layers[1]));
        expect(alone.kind).toBe("does_not_fit");
        expect(without.map(({ phone }) => phone)).not.toContain("me");
    });

    test("what does not fit is refused, and says how much is missing", async () => {
        await expect(demo("too_big").backend.start("qwen14")).rejects.toMatchObject({
            problem: { kind: "memory_short", missing_bytes: expect.any(Number) },
        });
    });
});

describe("answers", () => {
    test("begin, read, write, and end once", async () => {
        const watched = demo("group");

        const heard = await answer(watched, "sky", "Why is the sky blue?");

        expect(heard[0]?.kind).toBe("begun");
        expect(heard.at(-1)?.kind).toBe("end");
        expect(heard.filter((event) => event.kind === "end")).toHaveLength(1);
        expect(heard.some((event) => event.kind === "reading")).toBe(true);
        const text = heard.map((event) => (event.kind === "text" ? event.text : "")).join("");
        const end = heard.at(-1);
        expect(end?.kind === "end" && end.message.body.kind === "answer" && end.message.body.text).toBe(text);
        expect(watched.state().run?.measured?.tokens_per_s).toBeGreaterThan(0);
    });

    test("are the same for the same seed", async () => {
        const [a, b, c] = await Promise.all([1, 1, 2].map(async (seed) => {
            const heard: AnswerEvent[] = [];
            await demo("group", seed).backend.ask({ conversation: "sky", what: { kind: "new", text: "hm?" } }, (event) => heard.push(event));
            await pass(120_000);
            return heard.flatMap((event) => (event.kind === "reading" ? [event.total] : []));
        }));

        expect(a).toEqual(b);
        expect(a).not.toEqual(c);
    });

    test("stop when they are told to, and keep what was written", async () => {
        const watched = demo("group");
        const heard = await answer(watched, "sky", "Why is the sky blue?", 8000);
        await watched.backend.stopAnswer("sky");
        await pass(1000);

        const end = heard.at(-1);
        expect(end?.kind === "end" && end.message.body).toMatchObject({ outcome: { kind: "stopped" } });
    });

    test("wait for each other", async () => {
        const watched = demo("group");
        const second: AnswerEvent[] = [];
        const first = answer(watched, "sky", "Why is the sky blue?");
        await watched.backend.ask({ conversation: "trip", what: { kind: "again" } }, (event) => second.push(event));
        await first;
        await pass(120_000);

        expect(second.find((event) => event.kind === "queued")).toEqual({ kind: "queued", ahead: 1 });
        expect(second.at(-1)?.kind).toBe("end");
    });

    test("that are edited replace what followed", async () => {
        const watched = demo("group");
        const before = await watched.backend.loadConversation("ring");
        const first = before.messages[0]?.id ?? "";

        await watched.backend.ask({ conversation: "ring", what: { kind: "edit", message: first, text: "sky?" } }, () => undefined);
        await pass(120_000);

        const after = await watched.backend.loadConversation("ring");
        expect(after.messages.map(({ body }) => body.kind)).toEqual(["question", "answer"]);
    });

    test("go on when a phone leaves, and say so", async () => {
        const watched = demo("group", 1, true);
        await answer(watched, "sky", "Why is the sky blue?");
        const heard = await answer(watched, "trip", "Why is the sky blue?");

        const kinds = heard.map((event) => event.kind);
        expect(kinds).toContain("notice");
        expect(kinds.at(-1)).toBe("end");
        expect(watched.state().group?.members.map((member) => member.id)).not.toContain("sam");
    });
});

test("search finds what was said, in any conversation", async () => {
    const { backend } = demo("group");

    const hits = await backend.search("RAYLEIGH");

    expect(hits.map((hit) => hit.conversation)).toEqual(["sky"]);
    expect(hits[0]?.found).toBe("Rayleigh");
    expect(await backend.search("  ")).toEqual([]);
});
