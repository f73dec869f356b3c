import { describe, expect, test } from "vitest";

import type { Stage } from "../bindings/Stage";
import { DOTS_MAX, Dots, LAP_MS, arcs, label, path } from "./ring";

const stages = (...counts: number[]): Stage[] => {
    let at = 0;
    return counts.map((count, i) => ({ phone: `${i}`, layers: [at, (at += count)], ms_per_token: null }));
};

describe.each([[[16]], [[8, 8]], [[9, 12, 7]], [[30, 1, 1, 1]], [[1, 1, 1, 1, 1, 1, 1, 1]], [[0, 4]], [[0]]])("a ring of %j layers", (counts) => {
    const ring = arcs(stages(...counts));

    test("is closed: arcs follow each other, and go round once", () => {
        const gap = counts.length === 1 ? 0 : 5;
        ring.forEach((arc, i) => {
            const next = ring[(i + 1) % ring.length]?.from ?? 0;
            const wrapped = i === ring.length - 1 ? next + 360 : next;
            expect(wrapped - arc.to).toBeCloseTo(gap, 5);
            expect(arc.to).toBeGreaterThan(arc.from);
        });
    });

    test("has the head at the top", () => {
        expect(ring[0]?.middle).toBeCloseTo(0, 5);
    });

    test("leaves every name some room", () => {
        for (const arc of ring) expect(arc.to - arc.from).toBeGreaterThan(counts.length === 1 ? 359 : 20);
    });

    test("can be drawn", () => {
        for (const arc of ring) expect(path(arc, 92)).toMatch(/^M-?[\d.]+ -?[\d.]+A92 92 0 [01] 1 -?[\d.]+ -?[\d.]+$/);
    });
});

test("names stand outside of the ring, but for the head's", () => {
    for (let angle = 20; angle <= 340; angle += 5) {
        const { x, y } = label(angle, 92, 48, 34);
        expect(Math.hypot(x, y), `${angle} degrees`).toBeGreaterThan(92);
    }
    expect(label(0, 92, 48, 34)).toMatchObject({ side: "middle", above: false });
});

describe("dots", () => {
    test("take one lap each, and are gone", () => {
        const dots = new Dots();
        dots.beat(1, 100, 1000);

        expect(dots.laps(1000)).toEqual([0]);
        expect(dots.laps(1000 + LAP_MS / 2)).toEqual([0.5]);
        expect(dots.laps(1000 + LAP_MS)).toEqual([]);
        expect(dots.none).toBe(true);
    });

    test("of one beat follow each other", () => {
        const dots = new Dots();
        dots.beat(2, 100, 0);

        expect(dots.laps(50)).toHaveLength(1);
        expect(dots.laps(100)).toHaveLength(2);
    });

    test("are never more than there are circles for", () => {
        const dots = new Dots();
        for (let i = 0; i < 100; i++) dots.beat(50, 1, i);

        expect(dots.laps(100).length).toBeLessThanOrEqual(DOTS_MAX);
    });
});
