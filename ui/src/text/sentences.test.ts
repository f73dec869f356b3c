import { describe, expect, test } from "vitest";

import type { Notice } from "../bindings/Notice";
import type { PairingEnd } from "../bindings/PairingEnd";
import type { Problem } from "../bindings/Problem";
import type { ServerFault } from "../bindings/ServerFault";
import { HOSTILE_NAMES } from "../backend/demo/phones";
import { m } from "../paraglide/messages.js";
import de from "../../messages/de.json";
import en from "../../messages/en.json";
import { layerRange, notice, pairingEnd, problem } from "./sentences";

const plainNames = (text: string) => text.replace(/[\u2068\u2069]/g, "");

test("what happens to the group is told in plain lines", () => {
    expect(plainNames(notice({ kind: "phone_left", name: "Sam", phones: 2 }))).toBe("Sam left. Continuing on 2 phones.");
    expect(plainNames(notice({ kind: "phone_left", name: "Sam", phones: 1 }))).toBe("Sam left. Continuing on this phone alone.");
    expect(problem({ kind: "memory_short", missing_bytes: 2.1e9 })).toBe("2.1 GB of memory missing. Add a phone, or pick a smaller model.");
});

describe.each(HOSTILE_NAMES.map((name) => [name.slice(0, 20), name]))("with a name like %j", (_, name) => {
    const notices: Notice[] = [
        { kind: "phone_joined", name, phones: 2 }, { kind: "phone_left", name, phones: 2 }, { kind: "phone_lost", name, phones: 1 },
        { kind: "removed", name }, { kind: "leader_changed", name }, { kind: "rebalanced", name, reason: "hot" },
        { kind: "model_ready", model: name, phones: 2 }, { kind: "download_done", model: name }, { kind: "file_saved", path: name },
        { kind: "history_set_aside", path: name }, { kind: "start_failed", model: name, problem: { kind: "file_gone", name } },
        { kind: "pairing_ended", name, end: "declined" },
    ];
    const problems: Problem[] = [
        { kind: "other", detail: name }, { kind: "unsupported", architecture: name }, { kind: "file_changed", name },
        { kind: "server", host: name, fault: { kind: "wrong_hash" } },
    ];

    test("a sentence stays short, and keeps its direction", () => {
        for (const text of [...notices.map(notice), ...problems.map(problem)]) {
            expect(text.length).toBeLessThan(2200);
            expect(text).not.toMatch(/[\u202A-\u202E]/);
            expect(text.match(/\u2068/g)?.length).toBe(text.match(/\u2069/g)?.length);
        }
    });
});

test("every end of a pairing has words", () => {
    const ends: PairingEnd[] = [
        "declined", "cancelled", "busy", "expired", "bad_code", "invite_unknown", "invite_expired", "invite_used", "full", "blocked",
        "other_version", "unreachable", "wrong_host",
    ];

    for (const end of ends) expect(pairingEnd(end, "Anna").length).toBeGreaterThan(10);
});

test("whatever is wrong with a server, its name and what to do are said", () => {
    const faults: ServerFault[] = [
        { kind: "unreachable" }, { kind: "breaks_off" }, { kind: "starts_over" }, { kind: "refuses", status: 404 }, { kind: "fails", status: 503 },
        { kind: "wrong_length" }, { kind: "wrong_hash" }, { kind: "insecure" },
    ];
    const said = faults.map((fault) => problem({ kind: "server", host: "models.example", fault }));

    expect(new Set(said).size).toBe(faults.length);
    for (const text of said) expect(text).toMatch(/models\.example.*(try again|try another|import|update)/is);
    expect(said[3]).toContain("HTTP 404");
    expect(said[4]).toContain("HTTP 503");
});

test("damaged conversations are said to be kept, and where", () => {
    const text = notice({ kind: "history_set_aside", path: "/home/mira/history.db-damaged-17" });

    expect(plainNames(text)).toContain("set aside as /home/mira/history.db-damaged-17; a new file has been begun");
});

test.each([[1, "1st"], [2, "2nd"], [3, "3rd"], [4, "4th"], [11, "11th"], [12, "12th"], [22, "22nd"], [103, "103rd"]])("who is at place %i is told so as it is said", (place, said) => {
    expect(m.queue_waiting({ place })).toBe(`${said} in line`);
    expect(m.progress_queued({ place })).toBe(`${said} in line`);
    expect(m.queue_waiting({ place }, { locale: "de" })).toBe(`an ${place}. Stelle`);
});

test("layers are counted from 1, and a phone may have none", () => {
    expect(layerRange([0, 16]).replace(/\u2060/g, "")).toBe("Layers 1–16");
    expect(layerRange([0, 0])).toBe("No layers");
});

describe("English and German", () => {
    const inputs = (message: unknown) => [...new Set(JSON.stringify(message).match(/\{\w+\}/g) ?? [])].sort();

    test("say the same things", () => {
        expect(Object.keys(de).sort()).toEqual(Object.keys(en).sort());
    });

    test("take the same inputs, and none is empty", () => {
        for (const key of Object.keys(en).filter((key) => key !== "$schema")) {
            const both = { en: en[key as keyof typeof en], de: de[key as keyof typeof de] };

            expect(inputs(both.de), key).toEqual(inputs(both.en));
            expect(JSON.stringify(both.de).length, key).toBeGreaterThan(3);
        }
    });
});
