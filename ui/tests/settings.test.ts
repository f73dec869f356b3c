/** What a person decides about this phone. */
import { expect, test } from "vitest";

import type { Licences } from "../licences.ts";
import { button, open, tab, withBrowser } from "./browser.ts";

withBrowser();

test("a slider follows a key that is held, and never jumps back to what was kept before", async () => {
    const { page, close } = await open({ demo: "solo", speed: 1 });
    await tab(page, "Settings");
    await button(page, /What this phone gives/).click();
    await page.getByRole("switch", { name: /As much as is safe/ }).click();
    const slider = page.getByRole("slider", { name: "At most" });
    const gigabytes = async () => Number(await slider.getAttribute("aria-valuenow"));
    await slider.press("Home");

    const seen = [await gigabytes()];
    for (let press = 0; press < 12; press++) {
        await slider.press("ArrowRight");
        seen.push(await gigabytes());
        // Longer than the state takes to come back, shorter than a person who rests.
        await page.waitForTimeout(150);
        seen.push(await gigabytes());
    }

    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(1.4);
    await page.waitForTimeout(3000);
    expect(await gigabytes()).toBe(1.4);
    expect(await slider.getAttribute("aria-valuetext")).toBe("1.4 GB");
    await close();
});

test("two switches that are turned before either has come back stay as they were turned", async () => {
    const { page, close } = await open({ demo: "solo", speed: 1 });
    await tab(page, "Settings");
    await button(page, /What this phone gives/).click();
    const switches = ["Keep the screen on", "Compute only while charging"].map((name) => page.getByRole("switch", { name: new RegExp(name) }));
    const are = () => Promise.all(switches.map((one) => one.getAttribute("aria-checked")));
    const before = await are();

    // In one task of the page: quicker than any state.
    await page.evaluate((elements) => elements.forEach((element) => (element as HTMLElement).click()), await Promise.all(switches.map(async (one) => (await one.elementHandle())!)));
    await page.waitForTimeout(1000);

    expect(await are()).toEqual(before.map((was) => (was === "true" ? "false" : "true")));
    await close();
});

test("whatever the app is built of is listed, each with the words of its licence", async () => {
    const { page, close } = await open({ demo: "solo" });
    await tab(page, "Settings");
    await button(page, /About and licences/).click();
    const summary = page.getByRole("listitem").filter({ hasText: "llama.cpp and ggml" });
    await summary.getByText("llama.cpp and ggml").click();
    await summary.getByText("Permission is hereby granted").waitFor();

    const { texts, packages } = (await (await page.request.get(new URL("licences.json", page.url()).href)).json()) as Licences;
    const names = packages.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["tauri", "libp2p", "rusqlite", "SQLite", "llama-cpp-2", "tokio", "objc2", "jni", "svelte", "Rust’s standard library"]));
    // Built by others, tested with, or only writing code.
    for (const absent of ["serde_derive", "proptest", "vite", "vitest", "proto"]) expect(names).not.toContain(absent);
    expect(packages.filter(({ name, text }) => name !== "SQLite" && (texts[text] ?? "").length < 60).map(({ name }) => name)).toEqual([]);
    await close();
});

test("what was chosen last is kept even if one leaves at once", async () => {
    const { page, close } = await open({ demo: "solo", speed: 1 });
    await tab(page, "Settings");
    await button(page, /What this phone gives/).click();
    const slider = page.getByRole("slider", { name: "Rest below" });
    await slider.press("End");
    await button(page, "Back").click();

    await button(page, /What this phone gives/).click();
    await expect.poll(() => slider.getAttribute("aria-valuetext")).toBe("90%");
    await close();
});
