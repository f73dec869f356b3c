import { expect, test } from "vitest";

import { Sticky } from "./sticky";

const VIEW = 600;

test("a conversation follows from the beginning", () => {
    expect(new Sticky().holds).toBe(true);
});

test("who scrolls up lets go, and who comes back takes hold", () => {
    const sticky = new Sticky();
    sticky.scrolled(1400, VIEW, 2000, 0);
    sticky.touch(1000);
    sticky.scrolled(1200, VIEW, 2000, 1016);
    expect(sticky.holds).toBe(false);

    sticky.scrolled(1400 - Sticky.NEAR, VIEW, 2000, 1500);
    expect(sticky.holds).toBe(true);
});

test("text that grows below does not let go", () => {
    const sticky = new Sticky();
    sticky.scrolled(1400, VIEW, 2000, 0);
    sticky.touch(10);
    sticky.scrolled(1400, VIEW, 2300, 16);
    sticky.scrolled(1500, VIEW, 2400, 32);

    expect(sticky.holds).toBe(true);
});

test("a view that moves up by itself does not let go", () => {
    const sticky = new Sticky();
    sticky.touch(0);
    sticky.scrolled(1400, VIEW, 2000, 1000);
    sticky.scrolled(1100, VIEW, 2100, 1016);

    expect(sticky.holds).toBe(true);
});

test("text that grows while one reads above does not take hold", () => {
    const sticky = new Sticky();
    sticky.scrolled(1400, VIEW, 2000, 0);
    sticky.touch(10);
    sticky.scrolled(300, VIEW, 2000, 16);
    sticky.scrolled(320, VIEW, 2600, 32);

    expect(sticky.holds).toBe(false);
});
