/** What people do with conversations. */
import { readFileSync } from "node:fs";

import { expect, test } from "vitest";

import { answered, ask, button, open, tab, withBrowser } from "./browser.ts";

withBrowser();

test("an answer is queued, read, written, and says what it cost", async () => {
    const { page, close } = await open({ demo: "group", speed: 3 });
    await button(page, "New conversation").click();

    await ask(page, "Why is the sky blue?");
    await page.getByText(/Reading prompt \d+\/\d+/).waitFor();
    await page.getByText("Sunlight looks white").waitFor();
    await answered(page);

    await button(page, /First word .* tokens\/s/).waitFor();
    expect(await page.getByRole("heading", { level: 1, name: "Why is the sky blue?" }).count()).toBe(1);
    await close();
});

test("a screen reader hears answers, not tokens", async () => {
    const { page, close } = await open({ demo: "group", speed: 4 });
    await button(page, "New conversation").click();
    const heard = page.locator("p[aria-live=polite].sr-only");

    await ask(page, "Why is the sky blue?");
    await page.getByText("Sunlight looks white").first().waitFor();
    expect(await heard.textContent()).toBe("");

    await answered(page);
    expect(await heard.textContent()).toContain("This is called Rayleigh scattering.");
    await close();
});

test("an answer can be stopped, and given again", async () => {
    const { page, close } = await open({ demo: "group", speed: 4 });
    await button(page, "New conversation").click();
    await ask(page, "Why is the sky blue?");
    await page.getByText("Sunlight looks white").waitFor();

    await button(page, "Stop the answer").click();
    await page.getByText("Stopped.").waitFor();

    await button(page, "Answer again").click();
    await answered(page);
    await page.getByText("Rayleigh scattering").first().waitFor();
    expect(await page.getByText("Stopped.").count()).toBe(0);
    await close();
});

test("an answer that a page before asked for is taken up, heard to its end, or stopped", async () => {
    for (const stops of [false, true]) {
        const { page, close } = await open({ demo: "reloaded", speed: 2 });
        await button(page, /Why is the sky blue/).click();
        await page.getByText("Sunlight looks white").waitFor();
        if (stops) {
            await button(page, "Stop the answer").click();
            await page.getByText("Stopped.").waitFor();
        } else {
            await answered(page);
            await button(page, /First word .* tokens\/s/).waitFor();
        }

        expect(await page.getByRole("article").getByText("Sunlight looks white").count()).toBe(1);
        await close();
    }
});

test("an answer that the app ended in says so, and can be given again", async () => {
    const { page, close } = await open({ demo: "solo", speed: 20 });
    await button(page, /A greeting/).click();
    await page.getByText("Cut short when the app ended.").waitFor();
    expect(await page.getByText("Stopped.").count()).toBe(0);

    await button(page, "Answer again").click();
    await page.getByText("Cut short").waitFor({ state: "detached" });
    await answered(page);
    await close();
});

test("a question can be changed and asked again, and what followed is replaced", async () => {
    const { page, close } = await open({ demo: "group", speed: 20 });
    await button(page, /Why is the sky blue/).click();
    await button(page, "What to do with this message").click();
    await button(page, "Edit and ask again").click();

    const field = page.getByRole("textbox", { name: "Ask something" });
    expect(await field.inputValue()).toBe("Why is the sky blue?");
    await field.fill("Show me code");
    await button(page, "Send").click();
    await answered(page);

    await page.getByRole("article").getByText("A ring is easiest to see").waitFor();
    expect(await page.getByText("Sunlight looks white").count()).toBe(0);
    await close();
});

test("a message can be deleted, and an answer copied", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /Why is the sky blue/).click();
    await page.getByText("Sunlight looks white").waitFor();

    await button(page, "Copy").click();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toContain("[Rayleigh scattering](https://");

    await button(page, "What to do with this message").click();
    await button(page, "Delete message").click();
    await page.getByRole("article").waitFor();
    expect(await page.locator("section").getByText("Why is the sky blue?").count()).toBe(0);
    await close();
});

test("text is copied also where the browser's own clipboard may not be used", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /Why is the sky blue/).click();
    await page.getByText("Sunlight looks white").waitFor();
    await page.evaluate(() => (navigator.clipboard.writeText = () => Promise.reject(new Error("not allowed"))));

    await button(page, "Copy").click();

    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toContain("[Rayleigh scattering](https://");
    await close();
});

test("code is coloured and can be copied", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /How a ring works/).click();

    await page.locator("code .hljs-keyword").first().waitFor();
    await page.locator(".code").getByRole("button", { name: "Copy" }).click();

    expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(/^def lap\(hidden, ring\):\n/);
    await close();
});

test("a conversation can be renamed, saved, found, and deleted", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /Saturday in the hills/).click();
    const menu = button(page, "Menu of this conversation");

    await menu.click();
    await button(page, "Rename").click();
    await page.getByRole("textbox", { name: "Title" }).fill("A walk");
    await button(page, "Save").click();
    await page.getByRole("heading", { level: 1, name: "A walk" }).waitFor();

    await menu.click();
    const [markdown] = await Promise.all([page.waitForEvent("download"), button(page, "Save as Markdown").click()]);
    expect(markdown.suggestedFilename()).toBe("A-walk.md");
    expect(readFileSync(await markdown.path(), "utf8")).toMatch(/^# A walk\n\n> Answer briefly/);

    await menu.click();
    const [json] = await Promise.all([page.waitForEvent("download"), button(page, "Save as JSON").click()]);
    expect(JSON.parse(readFileSync(await json.path(), "utf8"))).toMatchObject({ format: "lingualinked-conversation", title: "A walk" });

    await menu.click();
    await button(page, "Delete conversation").click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
    await page.getByRole("heading", { level: 1, name: "Chats" }).waitFor();
    expect(await page.getByText("A walk").count()).toBe(0);
    await close();
});

test("a hit of a search is shown where it was said", async () => {
    const { page, close } = await open({ demo: "long" });
    await page.getByRole("searchbox").fill("777. ");
    await page.getByText("1 hit").waitFor();

    await page.locator("main li button").first().click();

    await page.getByText("777. ").waitFor();
    expect(await page.getByText("777. ").isVisible()).toBe(true);
    await close();
});

test("instructions and sampling are kept with the conversation", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /Saturday in the hills/).click();
    await button(page, "Menu of this conversation").click();
    await button(page, "How it answers").click();
    await page.getByRole("textbox", { name: "Instructions" }).fill("Only in rhymes.");
    await page.getByRole("slider", { name: "Liveliness" }).press("Home");
    await page.getByText("Always the likeliest word").waitFor();
    await button(page, "Save").click();

    await button(page, "Menu of this conversation").click();
    await button(page, "How it answers").click();
    expect(await page.getByRole("textbox", { name: "Instructions" }).inputValue()).toBe("Only in rhymes.");
    expect(await page.getByRole("slider", { name: "Liveliness" }).getAttribute("aria-valuetext")).toBe("Always the likeliest word");
    await close();
});

test("the view follows what is written, until one scrolls up", async () => {
    const { page, close } = await open({ demo: "long", speed: 3 });
    await button(page, /A long conversation/).click();
    const view = page.getByRole("region", { name: "Messages" });
    const fromEnd = () => view.evaluate((element) => element.scrollHeight - element.clientHeight - element.scrollTop);
    await page.getByText("1000. ").waitFor();
    expect(await fromEnd()).toBeLessThan(2);

    await ask(page, "Why is the sky blue?");
    await page.getByText("scattering grows with").last().waitFor();
    expect(await fromEnd()).toBeLessThan(60);

    await view.hover();
    await page.mouse.wheel(0, -900);
    await page.waitForTimeout(600);
    expect(await fromEnd()).toBeGreaterThan(300);

    await button(page, "To the latest message").click();
    await page.waitForTimeout(300);
    expect(await fromEnd()).toBeLessThan(60);
    await close();
});

test("several ask at once: the second waits in line, and each stops their own", async () => {
    const { page, close } = await open({ demo: "group", speed: 2 });
    await button(page, /Why is the sky blue/).click();
    await ask(page, "Why is the sky blue?");
    await page.getByText(/Reading prompt/).waitFor();
    await button(page, "Back").click();
    await button(page, /Saturday in the hills/).click();
    await ask(page, "Show me code");

    await page.getByText("Next in line").waitFor();
    await button(page, "Back").click();
    await tab(page, "Group");
    await page.getByText("Under way").waitFor();
    expect(await page.getByText("next", { exact: true }).count()).toBe(1);
    await close();
});

test("when a phone leaves, the answer goes on and says so", async () => {
    const { page, close } = await open({ demo: "group", speed: 20, events: true });
    await button(page, /Why is the sky blue/).click();
    await ask(page, "Why is the sky blue?");
    await answered(page);
    await ask(page, "Why is the sky blue, again?");
    await answered(page);

    await page.locator("section").getByText(/Sam.* left\. Continuing on 2 phones\./).waitFor();
    await page.getByText("2 phones", { exact: false }).first().waitFor();
    await close();
});

test("an empty conversation leaves no trace", async () => {
    const { page, close } = await open({ demo: "group" });
    const count = () => page.locator("main ul > li").count();
    const before = await count();

    await button(page, "New conversation").click();
    await page.getByText("What would you like to know?").waitFor();
    await button(page, "Back").click();
    await page.getByRole("searchbox").waitFor();
    await page.waitForTimeout(200);

    expect(await count()).toBe(before);
    await close();
});

test("links ask before they lead anywhere", async () => {
    const { page, close } = await open({ demo: "group" });
    await button(page, /Why is the sky blue/).click();

    await page.getByRole("link", { name: "Rayleigh scattering" }).click();

    await page.getByRole("dialog").getByText("https://en.wikipedia.org/wiki/Rayleigh_scattering").waitFor();
    expect(new URL(page.url()).pathname).toBe("/");
    await close();
});
