import { afterEach, describe, expect, test } from "vitest";

import { overwriteGetLocale } from "../paraglide/runtime.js";
import { bytes, difference, milliseconds, moment, parameters, percent, rate, seconds, smallBytes, speed } from "./format";

afterEach(() => overwriteGetLocale(() => "en"));

describe("in English", () => {
    test.each([
        [0, "0 MB"], [1, "< 1 MB"], [999_999, "< 1 MB"], [1e6, "1 MB"], [98e6, "98 MB"], [994e6, "994 MB"],
        [999.9e6, "1 GB"], [1.24e9, "1.2 GB"], [9.96e9, "10 GB"], [16e9, "16 GB"], [-5, "0 MB"], [NaN, "–"], [Infinity, "–"],
    ])("%d bytes are %j", (count, text) => expect(bytes(count)).toBe(text));

    test.each([[0, "0 s"], [0.71, "0.7 s"], [12.4, "12 s"], [59.6, "60 s"], [60, "1 min"], [3599, "1 h"], [4800, "1 h 20 min"], [-1, "0 s"], [Infinity, "–"]])(
        "%d seconds are %j",
        (s, text) => expect(seconds(s)).toBe(text),
    );

    test.each([[0.5, "0.5"], [7, "7.0"], [9.94, "9.9"], [9.96, "10"], [41.7, "42"]])("%d tokens a second are %j", (value, text) =>
        expect(speed(value)).toBe(text),
    );

    test("the rest", () => {
        expect(milliseconds(12.34)).toBe("12 ms");
        expect(milliseconds(1500)).toBe("1.5 s");
        expect(rate(11e6)).toBe("11 MB/s");
        expect(smallBytes(24_700)).toBe("25 kB");
        expect(percent(0.64)).toBe("64%");
        expect(difference(0.08)).toBe("+8%");
        expect(difference(0)).toBe("0%");
        expect(parameters(3.21e9)).toBe("3.2 B");
        expect(parameters(135e6)).toBe("135 M");
    });
});

test("in German, numbers are German", () => {
    overwriteGetLocale(() => "de");

    expect(bytes(1.24e9)).toBe("1,2 GB");
    expect(speed(6.94)).toBe("6,9");
    expect(percent(0.64)).toBe("64\u00A0%");
});

test("a moment is told as finely as one remembers it", () => {
    const noon = new Date(2026, 5, 10, 12, 0).getTime();
    const day = 86_400_000;

    expect(moment(noon - 3 * 3_600_000, noon)).toMatch(/^9:00\sAM$/);
    expect(moment(noon - day, noon)).toBe("Tue");
    expect(moment(noon - 10 * day, noon)).toBe("May 31");
});
