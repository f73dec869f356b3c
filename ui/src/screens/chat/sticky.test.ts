import { expect, test } from "vitest";

import { Sticky } from "./sticky";

const VIEW = 600;

test("a conversation follows from the beginning", () => {
    expect(new Sticky().holds).toBe(true);
});

test("scrolling up lets go, and coming back takes hold", () => {
    const sticky = new Sticky();
    sticky.scrolled(1400, VIEW, 2000);
    sticky.scrolled(1200, VIEW, 2000);
    expect(sticky.holds).toBe(false);

    sticky.scrolled(1400 - Sticky.NEAR, VIEW, 2000);
    expect(sticky.holds).toBe(true);
});

test("text that grows below does not let go", () => {
    const sticky = new Sticky();
    sticky.scrolled(1400, VIEW, 2000);
    sticky.scrolled(1400, VIEW, 2300);
    sticky.scrolled(1500, VIEW, 2400);

    expect(sticky.holds).toBe(true);
});

test("text that grows while one reads above does not take hold", () => {
    const sticky = new Sticky();
    sticky.scrolled(1400, VIEW, 2000);
    sticky.scrolled(300, VIEW, 2000);
    sticky.scrolled(320, VIEW, 2600);

    expect(sticky.holds).toBe(false);
});
