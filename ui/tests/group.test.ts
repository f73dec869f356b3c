/** From the first screen to an answer, and what happens to groups. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import type { Page } from "playwright-core";
import { beforeAll, expect, test } from "vitest";

import { SHOTS, answered, ask, button, closeSheet, expectSound, open, tab, withBrowser } from "./browser.ts";

withBrowser();
beforeAll(() => void mkdirSync(SHOTS, { recursive: true }));

test("a fresh phone founds a group, invites another, starts a model, and chats", async () => {
    const { page, close } = await open({ demo: "fresh", speed: 20 });
    await button(page, "Continue").click();
    await page.getByText("Give it a name").waitFor();
    await page.getByRole("textbox").fill("\u202EMira\u0000’s phone");
    await button(page, "Continue").click();
    await button(page, "Continue").click();
    await button(page, "Start a group").click();
    await page.getByText("A group of one, so far").waitFor();

    await button(page, /Anna.*Invite/).click();
    await page.getByText("Does").waitFor();
    await button(page, "Yes, the same").click();
    await page.getByRole("heading", { name: "2 phones" }).waitFor();

    await button(page, "Pick a model").click();
    await button(page, /Llama 3.2 1B/).click();
    await button(page, /Download/).click();
    await button(page, "Start on 2 phones").click({ timeout: 30_000 });
    await page.getByText("Ready on 2 phones", { exact: true }).waitFor({ timeout: 30_000 });
    expect(await page.getByRole("img", { name: /Ring in order: Mira’s phone, layers 1 to \d+; Anna’s Pixel/ }).count()).toBe(1);

    await button(page, "Chat").click();
    await button(page, "New conversation").click();
    await ask(page, "Why is the sky blue?");
    await answered(page);
    await page.getByText("Rayleigh scattering").first().waitFor();
    await close();
});

test("who is asked sees who asks and the code, and may refuse", async () => {
    const { page, close } = await open({ demo: "asked" });
    await page.getByRole("dialog", { name: /Anna’s Pixel.* wants to join you/ }).waitFor();
    await page.getByText(/^\d{3} \d{3}$/).waitFor();

    await button(page, "No, thanks").click();
    await page.getByRole("dialog").waitFor({ state: "detached" });

    await tab(page, "Group");
    expect(await button(page, "Leave the group").count()).toBe(0);
    await close();
});

test("who finds nobody is offered to search harder, and then finds", async () => {
    const { page, close } = await open({ demo: "unheard", size: "small" });
    await tab(page, "Group");
    await button(page, "Search harder").scrollIntoViewIfNeeded();
    await page.screenshot({ path: join(SHOTS, "unheard.png") });
    await expectSound(page, "nobody is heard");

    await button(page, "Search harder").click();
    await button(page, /Anna’s Pixel/).waitFor();
    expect(await button(page, "Search").count()).toBe(0);
    await close();
});

test("a scanned code leads into a group", async () => {
    const { page, close } = await open({ demo: "nearby" });
    await tab(page, "Group");
    await button(page, "Join with a code").click();

    await button(page, "Scan the QR code").click();

    await page.getByRole("heading", { name: "2 phones" }).waitFor();
    await close();
});

test.each(["Cancel", "Escape", "back"])("a scan that sees nothing ends with %s, and the form is there again", async (way) => {
    const { page, close } = await open({ demo: "isolated" });
    await tab(page, "Group");
    await button(page, "Join with a code").click();
    await button(page, "Scan the QR code").click();
    await page.getByRole("dialog", { name: "Hold the code in the frame" }).waitFor();
    // The camera's picture is behind the page.
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await expect.poll(background).toBe("rgba(0, 0, 0, 0)");
    await page.getByRole("navigation").waitFor({ state: "hidden" });

    if (way === "Cancel") await button(page, "Cancel").click();
    else if (way === "Escape") await page.keyboard.press("Escape");
    else await page.goBack();

    await page.getByRole("dialog", { name: "Join with a code" }).waitFor();
    await expect.poll(background).not.toBe("rgba(0, 0, 0, 0)");
    await closeSheet(page);
    await page.getByRole("heading", { level: 1, name: "Group" }).waitFor();
    await expect.poll(() => page.evaluate(() => Number(history.state))).toBe(0);
    await close();
});

test("a download can be paused and resumed", async () => {
    const { page, close } = await open({ demo: "nearby", speed: 2 });
    await tab(page, "Models");
    await button(page, /Llama 3.2 3B/).click();
    await button(page, /Download, 1.9 GB/).click();

    await button(page, "Pause the download").click();
    await page.getByText("Paused").waitFor();
    await button(page, "Resume the download").click();
    await page.getByText(/MB\/s · .* left/).waitFor();
    await close();
});

test("a member can be left out, removed, and blocked, each only when one is sure", async () => {
    const { page, close } = await open({ demo: "group" });
    await tab(page, "Group");
    await button(page, /Anna’s Pixel/).click();
    await page.getByRole("switch", { name: /Takes part in computing/ }).click();
    await closeSheet(page);
    await page.getByText("Left out of computing").waitFor();

    await button(page, /^.*Sam.*$/).click();
    await button(page, "Remove from the group").click();
    await page.getByRole("heading", { name: "3 phones" }).waitFor();
    await button(page, /Really remove/).click();
    await page.getByRole("heading", { name: "2 phones" }).waitFor();
    await close();
});

test("leaving needs to be said twice, and leaves the conversations", async () => {
    const { page, close } = await open({ demo: "group" });
    await tab(page, "Group");
    await button(page, "Leave the group").click();
    await button(page, "Leave now").click();
    await button(page, "Join with a code").waitFor();

    await tab(page, "Chats");
    await button(page, /How a ring works/).waitFor();
    await close();
});

test("a sheet gives the focus back, and closes with Escape", async () => {
    const { page, close } = await open({ demo: "group" });
    await tab(page, "Group");
    const opener = button(page, "Leave the group");
    await opener.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();

    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });

    expect(await opener.evaluate((element) => element === document.activeElement)).toBe(true);
    await close();
});

test("the way back leads from a conversation to the list", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /How a ring works/).click();
    await page.getByRole("heading", { level: 1, name: "How a ring works" }).waitFor();

    await page.goBack();

    await page.getByRole("heading", { level: 1, name: "Chats" }).waitFor();
    await close();
});

test("however often a conversation was left by its arrow, or a sheet closed, the first step back leaves the app", async () => {
    const { page, close } = await open({ demo: "group" });
    for (let visit = 0; visit < 3; visit++) {
        await button(page, /How a ring works/).click();
        await button(page, "Menu of this conversation").click();
        await closeSheet(page);
        await button(page, "Back").click();
        await page.getByRole("heading", { level: 1, name: "Chats" }).waitFor();
    }

    await leaveByBack(page);
    await close();
});

test("the way back leads from a model that was started out of the app, past no other screen", async () => {
    const { page, close } = await open({ demo: "group" });
    await tab(page, "Models");
    await button(page, /Llama 3.2 3B/).click();
    await button(page, "Chat").click();
    await page.getByRole("heading", { level: 1, name: "Chats" }).waitFor();
    await tab(page, "Models");

    await leaveByBack(page);
    await close();
});

test("the way back leads on where the page was loaded again over a screen", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /How a ring works/).click();
    await page.getByRole("heading", { level: 1, name: "How a ring works" }).waitFor();
    await page.reload();
    await button(page, /How a ring works/).click();
    await page.getByRole("heading", { level: 1, name: "How a ring works" }).waitFor();

    await page.goBack();
    await page.getByRole("heading", { level: 1, name: "Chats" }).waitFor();
    await page.goBack();
    await page.goBack();
    expect(page.url()).toBe("about:blank");
    await close();
});

test("the way back closes a sheet and leaves the screen, also one that took the place of another", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /How a ring works/).click();
    await button(page, "Menu of this conversation").click();
    await button(page, "How it answers").click();
    await page.getByRole("dialog", { name: "How it answers" }).waitFor();

    await page.goBack();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.getByRole("heading", { level: 1, name: "How a ring works" }).waitFor();

    await page.goBack();
    await page.getByRole("heading", { level: 1, name: "Chats" }).waitFor();
    await close();
});

test("the way back closes one sheet after the other; of a pairing it says no, and nobody comes in", async () => {
    const { page, close } = await open({ demo: "asked", speed: 0.1 });
    await tab(page, "Group");
    await button(page, "Join with a code").click();
    await page.getByRole("dialog", { name: "Join with a code" }).waitFor();
    await page.getByText(/^\d{3} \d{3}$/).waitFor();

    await page.goBack();
    await page.getByText(/^\d{3} \d{3}$/).waitFor({ state: "detached" });
    await page.getByRole("dialog", { name: "Join with a code" }).waitFor();

    await page.goBack();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await button(page, "Join with a code").waitFor();
    expect(await button(page, "Leave the group").count()).toBe(0);

    await leaveByBack(page);
    await close();
});

test.each([[true, 1], [false, 0]])("dots go round with every token, unless less motion is wanted (moving: %s)", async (moving, least) => {
    const { page, close } = await open({ demo: "group", speed: 1, moving });
    await button(page, /Why is the sky blue/).click();
    await ask(page, "Why is the sky blue?");
    await page.getByText(/Reading prompt/).waitFor();
    await button(page, "Back").click();
    await tab(page, "Group");
    await page.getByText(/writing, \d+ tokens/).waitFor();
    await page.waitForTimeout(1200);

    const shown = await page.locator("figure circle").evaluateAll((dots) => dots.filter((dot) => getComputedStyle(dot).opacity === "1").length);

    if (least === 0) expect(shown).toBe(0);
    else expect(shown).toBeGreaterThanOrEqual(least);
    await close();
});

test("of a model that only another phone has, that phone says what to expect", async () => {
    const { page, close } = await open({ demo: "many", speed: 0.2 });
    await tab(page, "Models");
    await button(page, /Gemma 3 270M/).click();

    await page.getByText(/has this model, and is finding out/).waitFor();
    await page.getByText(/^.+ alone$/).waitFor();
    expect(await page.getByText("This phone alone").count()).toBe(0);
    expect(await page.getByText("not measured yet").count()).toBe(0);
    expect(await button(page, "Delete Gemma 3 270M").count()).toBe(0);
    await button(page, /^Start on/).waitFor();
    await close();
});

/** Goes back once, from a screen with nothing over it, and sees that this leaves the app. */
async function leaveByBack(page: Page): Promise<void> {
    // The history follows what is shown, a moment later.
    await expect.poll(() => page.evaluate(() => history.state as unknown)).toBe(null);
    await page.goBack();
    expect(page.url()).toBe("about:blank");
}
