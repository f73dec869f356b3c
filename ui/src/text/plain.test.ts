import { describe, expect, test } from "vitest";

import { HOSTILE_NAMES } from "../backend/demo/phones";
import { NAME_LETTERS_MAX, cleanName, cleanProse, fileName, initial, truncate } from "./plain";

describe("a stranger's name", () => {
    test.each([
        ["Anna", "Anna"],
        ["  Anna \n  Pixel\t7 ", "Anna Pixel 7"],
        ["a\u0000b\u0007c\u001B[31m", "abc[31m"],
        ["\u202Etxt.exe", "txt.exe"],
        ["\u2067abc\u2069\u200F", "abc"],
        ["A\u200B\u2060\uFEFF", "A"],
        ["\u200B\u3164\u115F", ""],
        ["", ""],
        ["\uD800lone", "lone"],
        ["نور", "نور"],
        ["👩‍👩‍👧 home", "👩‍👩‍👧 home"],
        ["e\u0301", "é"],
    ])("%j is shown as %j", (name, shown) => {
        expect(cleanName(name)).toBe(shown);
    });

    test("loses the accents that climb over the lines above", () => {
        const shown = cleanName("Z" + "\u0301\u0300\u0316".repeat(50) + "algo");

        expect(shown.length).toBeLessThan(12);
        expect(shown).toMatch(/algo$/);
    });

    test.each(HOSTILE_NAMES)("is one short line without controls, whatever it was", (name) => {
        const shown = cleanName(name);

        expect([...new Intl.Segmenter().segment(shown)].length).toBeLessThanOrEqual(NAME_LETTERS_MAX);
        expect(shown).not.toMatch(/[\p{Cc}\u202A-\u202E\u2066-\u2069]/u);
    });

    test("of ten megabytes is cut before it is looked at", () => {
        const name = "\u0301W".repeat(5_000_000);
        const before = process.cpuUsage();

        cleanName(name);

        // Looking at all of it takes seconds.
        expect(process.cpuUsage(before).user / 1000).toBeLessThan(500);
    });

    test("has an initial, even if nothing in it can be seen", () => {
        expect(initial("anna")).toBe("A");
        expect(initial("\u202E")).toBe("?");
        expect(initial("👩‍👩‍👧 home")).toBe("👩‍👩‍👧");
    });
});

test("prose keeps lines and tabs, and loses controls and overrides", () => {
    expect(cleanProse("a\r\nb\tc\u0000\u202Ed\u202C\u0085")).toBe("a\nb\tcd");
});

test("prose keeps the marks that right-to-left writing needs", () => {
    expect(cleanProse("\u200Fשלום\u2067x\u2069")).toBe("\u200Fשלום\u2067x\u2069");
});

test("truncating counts letters, not code units", () => {
    expect(truncate("👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧", 3)).toBe("👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧");
    expect(truncate("abcdef", 4)).toBe("abc…");
});

test.each([
    ["Why is the sky blue?", "Why-is-the-sky-blue.md"],
    ["../../etc/passwd", "etc-passwd.md"],
    ["a\u0000b/c\\d:e", "ab-c-d-e.md"],
    ["", "chat.md"],
])("a file named after %j is %j", (title, name) => {
    expect(fileName(title, "md")).toBe(name);
});
