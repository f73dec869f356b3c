/** Getting models. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, test } from "vitest";

import { SHOTS, answered, ask, button, closeSheet, expectSound, open, tab, withBrowser } from "./browser.ts";

withBrowser();
beforeAll(() => void mkdirSync(SHOTS, { recursive: true }));

test("an import that is copied is seen coming, can be stopped, and pulls nobody back who has gone elsewhere", async () => {
    const { page, close } = await open({ demo: "group", speed: 0.5 });
    await tab(page, "Models");
    const importing = button(page, "Import a GGUF file");
    const row = page.getByRole("listitem").filter({ hasText: "my-finetune.Q4_0.gguf" });
    const copied = page.getByRole("progressbar", { name: "Copy of my-finetune.Q4_0.gguf" });
    const share = async () => Number(await copied.getAttribute("aria-valuenow"));

    await importing.click();
    await row.getByText(/^Copying, \d+%$/).waitFor();
    await expect.poll(share).toBeGreaterThan(0);
    await row.scrollIntoViewIfNeeded();
    await expectSound(page, "copying");
    await page.screenshot({ path: join(SHOTS, "models-copying.png") });
    await button(page, "Stop copying my-finetune.Q4_0.gguf").click();
    await row.waitFor({ state: "detached" });
    expect(await importing.isEnabled()).toBe(true);

    await importing.click();
    await copied.waitFor();
    await tab(page, "Settings");
    await page.waitForTimeout(20_000);
    await page.getByRole("heading", { level: 1, name: "Settings" }).waitFor();
    await tab(page, "Models");
    await row.getByText("Fits").first().waitFor();
    await close();
});

const oneTap = /^Get .*SmolLM2 135M.*, 98 MB, and chat$/;

test("on a fresh phone one tap gets the smallest model, starts it, and opens a conversation", async () => {
    const { page, close } = await open({ demo: "fresh", speed: 3 });
    await page.getByRole("textbox").fill("Mira’s phone");
    await button(page, "Continue").click();
    await button(page, "Continue").click();
    await button(page, /Just chat here/).click();

    await button(page, oneTap).click();
    await page.getByRole("progressbar", { name: "Download of SmolLM2 135M" }).waitFor();
    await page.getByText("What would you like to know?").waitFor();

    await ask(page, "Why is the sky blue?");
    await answered(page);
    await page.getByText("Rayleigh scattering").first().waitFor();
    await close();
});

test("what one tap began can be stopped and gone on with", async () => {
    const { page, close } = await open({ demo: "nearby", speed: 1 });
    await button(page, oneTap).click();
    await page.getByText(/MB\/s · .* left/).waitFor();

    await button(page, "Stop").click();
    await button(page, oneTap).waitFor();
    await tab(page, "Models");
    await page.getByText("Paused").waitFor();

    await tab(page, "Chats");
    await button(page, oneTap).click();
    await page.getByText("What would you like to know?").waitFor();
    await close();
});

test("after an error, what one tap began goes on from there", async () => {
    const { page, close } = await open({ demo: "unsteady", speed: 3 });
    await button(page, oneTap).click();

    await page.getByText("The connection to").waitFor();
    await button(page, "Try again").click();

    await page.getByText("What would you like to know?").waitFor();
    await close();
});

test("what one tap began pulls nobody back who has gone elsewhere", async () => {
    const { page, close } = await open({ demo: "nearby", speed: 5 });
    await button(page, oneTap).click();
    await tab(page, "Settings");

    await page.getByText(/is ready on this phone/).waitFor();
    await page.waitForTimeout(500);
    await page.getByRole("heading", { level: 1, name: "Settings" }).waitFor();
    await tab(page, "Chats");
    await button(page, "New conversation").waitFor();
    await close();
});

test("of every phone of the group one is told what it would run, or why it would not", async () => {
    const { page, close } = await open({ demo: "group" });
    await tab(page, "Group");
    await button(page, /Anna’s Pixel/).click();
    await page.getByRole("switch", { name: /Takes part in computing/ }).click();
    await closeSheet(page);
    const phones = page.locator("section").filter({ hasText: "Who would run what" }).getByRole("listitem");

    await tab(page, "Models");
    await button(page, /SmolLM2 135M/).click();
    await expect.poll(() => phones.allInnerTexts()).toEqual([
        expect.stringMatching(/Mira’s phone\s+Layers .*1.*30\s+6.5 ms of each word/),
        expect.stringMatching(/Sam\s+Not used: it would add 14 ms to each word/),
        expect.stringMatching(/Anna’s Pixel\s+Left out of computing/),
    ]);
    await close();
});

test.each([["Gemma 3 270M", "Frees 104 MB"], ["Llama 3.2 3B", "The next download begins anew"]])("what is here of %s, which has not come whole, can be deleted", async (name, said) => {
    const { page, close } = await open({ demo: "damaged" });
    await button(page, "Put this message away").click();
    await tab(page, "Models");
    await button(page, new RegExp(name)).click();

    await button(page, /^Delete what is here of/).click();
    await page.getByRole("dialog").getByText(said).waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();

    await page.getByRole("heading", { level: 1, name: "Models" }).waitFor();
    await button(page, new RegExp(name)).click();
    await button(page, /^Download, /).waitFor();
    expect(await button(page, /^Delete/).count()).toBe(0);
    await close();
});

test("an import whose file is gone can be removed, or imported again", async () => {
    const { page, close } = await open({ demo: "damaged" });
    const row = page.getByRole("listitem").filter({ hasText: "my-finetune.Q4_0.gguf" });
    await button(page, "Put this message away").click();
    await tab(page, "Models");
    await row.getByText("is no longer where it was").waitFor();
    expect(await row.getByRole("button", { name: "Try again" }).count()).toBe(0);

    await row.getByRole("button", { name: "Import again" }).click();
    await row.getByText("Fits").first().waitFor();
    await row.getByText("is no longer where it was").waitFor({ state: "detached" });
    expect(await row.count()).toBe(1);

    await row.getByRole("button").first().click();
    await button(page, /^Remove .*my-finetune/).click();
    await page.getByRole("dialog").getByText("is only forgotten").waitFor();
    expect(await page.getByText("You can download it again").count()).toBe(0);
    await page.getByRole("dialog").getByRole("button", { name: "Remove", exact: true }).click();
    await page.getByRole("heading", { level: 1, name: "Models" }).waitFor();
    expect(await row.count()).toBe(0);
    await close();
});
