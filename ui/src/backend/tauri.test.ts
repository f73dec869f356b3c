// @vitest-environment jsdom
import { clearMocks, mockIPC } from "@tauri-apps/api/mocks";
import { afterEach, expect, test } from "vitest";

import type { AnswerEvent } from "../bindings/AnswerEvent";
import { Refused, type Backend } from "./backend";
import source from "./tauri.ts?raw";
import { TauriBackend } from "./tauri";

afterEach(clearMocks);

/** The table in the file's header is what the other side is written against. */
test("every command stands in the table, and every one of the table is used", () => {
    const table = source.slice(0, source.indexOf("*/"));
    const listed = [...table.matchAll(/^ \* \| ([^|]+)\|/gm)].flatMap(([, cell]) => cell?.match(/`(\w+)`/g) ?? []).map((name) => name.slice(1, -1));
    const used = [...source.slice(table.length).matchAll(/(?:call<[^(]+>|subscribe)\("(\w+)"/g)].map(([, name]) => name);

    expect([...new Set(used)].sort()).toEqual([...listed].sort());
});

test("arguments reach the command by name", async () => {
    const calls: unknown[] = [];
    mockIPC((command, args) => void calls.push([command, args]));
    const backend: Backend = new TauriBackend();

    await backend.pair("12D3", "invite");
    await backend.configureConversation("c", "Be brief", { temperature: 0, top_k: 1, top_p: 1, min_p: 0, repetition_penalty: 1, seed: 7, max_tokens: 8 });

    expect(calls).toEqual([
        ["pair", { phone: "12D3", purpose: "invite" }],
        ["configure_conversation", { conversation: "c", systemPrompt: "Be brief", sampling: expect.objectContaining({ seed: 7 }) }],
    ]);
});

test("settings are changed in the order in which somebody did it, even if a change is slow or refused", async () => {
    const taken: unknown[] = [];
    let refuse: ((problem: unknown) => void) | undefined;
    mockIPC((_, args) => {
        taken.push((args as { change: { value: unknown } }).change.value);
        return taken.length === 1 ? new Promise((_, reject) => (refuse = reject)) : undefined;
    });
    const backend = new TauriBackend();

    const first = backend.changeSetting({ setting: "battery_floor", value: 7 });
    const second = backend.changeSetting({ setting: "battery_floor", value: 0.5 });
    await expect.poll(() => refuse).toBeDefined();
    expect(taken).toEqual([7]);
    refuse?.({ kind: "busy" });

    await expect(first).rejects.toEqual(new Refused({ kind: "busy" }));
    await second;
    expect(taken).toEqual([7, 0.5]);
});

test("a refusal keeps its reason; anything else becomes one", async () => {
    mockIPC((command) => {
        throw command === "leave" ? { kind: "not_leader" } : "command stop not found";
    });
    const backend = new TauriBackend();

    await expect(backend.leave("now")).rejects.toEqual(new Refused({ kind: "not_leader" }));
    const error = await backend.stop().catch((error: unknown) => error);
    expect(error).toBeInstanceOf(Refused);
    expect((error as Refused).problem).toEqual({ kind: "other", detail: "command stop not found" });
});

test("an answer's words may come after its command has resolved", async () => {
    let send: ((event: AnswerEvent) => void) | undefined;
    mockIPC((_, args) => {
        const channel = (args as { on: { id: number } }).on;
        let index = 0;
        send = (message) => (window as unknown as { __TAURI_INTERNALS__: { runCallback: (id: number, data: unknown) => void } })
            .__TAURI_INTERNALS__.runCallback(channel.id, { message, index: index++ });
    });
    const heard: string[] = [];

    await new TauriBackend().ask({ conversation: "c", what: { kind: "again" } }, (event) => heard.push(event.kind));
    send?.({ kind: "text", text: "late" });
    send?.({ kind: "end", message: { id: "m", at_unix_ms: 0, body: { kind: "answer", text: "late", outcome: { kind: "complete" }, figures: null } } });

    expect(heard).toEqual(["text", "end"]);
});
