/** Whatever strangers and models write, it only ever shows. */
import { join } from "node:path";
import { mkdirSync } from "node:fs";

import { expect, test } from "vitest";

import { SHOTS, button, expectSound, open, tab, withBrowser } from "./browser.ts";

withBrowser();

test.each(["small", "tablet"] as const)("hostile names and answers only show (%s)", async (size) => {
    mkdirSync(SHOTS, { recursive: true });
    const { page, close } = await open({ demo: "hostile", size, moving: true });
    const title = await page.title();
    await page.waitForTimeout(200);
    await page.screenshot({ path: join(SHOTS, `hostile-chats-${size}.png`) });

    for (const name of ["Group", "Models", "Settings", "Chats"] as const) {
        await tab(page, name);
        await page.waitForTimeout(300);
        await page.screenshot({ path: join(SHOTS, `hostile-${name.toLowerCase()}-${size}.png`) });
        expect(await page.title()).toBe(title);
        const over = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll("[data-scroller]")].filter((element) => element.scrollWidth > element.clientWidth).length);
        expect(over, `${name} is wider than the screen`).toBe(0);
    }

    await page.locator("main li button").first().click();
    await page.locator(".prose").getByText("ring a bell").waitFor();
    await page.screenshot({ path: join(SHOTS, `hostile-chat-${size}.png`) });
    await page.getByText("click me", { exact: true }).click();
    await page.waitForTimeout(300);

    expect(await page.title()).toBe(title);
    expect(await page.locator(".prose").evaluateAll((all) => all.map((one) => one.querySelectorAll("script, img, iframe, style, [onclick], [style]").length))).not.toContain(1);
    await page.evaluate(() => document.querySelector("main section")?.scrollTo(0, 0));
    await expectSound(page, "hostile chat");
    // No text of a stranger's is in the page at length.
    const longest = await page.evaluate(() => Math.max(...[...document.querySelectorAll("bdi, h1, h2, button")].map((element) => element.textContent?.length ?? 0)));
    expect(longest).toBeLessThan(1200);
    await close();
});

test("a model that writes hostile text word by word only shows it", async () => {
    const { page, close } = await open({ demo: "group", speed: 20 });
    const title = await page.title();
    await button(page, "New conversation").click();
    await page.getByRole("textbox", { name: "Ask something" }).fill("write hostile text");
    await button(page, "Send").click();
    await button(page, "Answer again").waitFor({ timeout: 60_000 });

    expect(await page.title()).toBe(title);
    await close();
});

test("the policy of the page forbids what the screens do not need", async () => {
    const { page, wrong, close } = await open({ demo: "fresh" });

    const outcomes = await page.evaluate(async () => {
        const blocked: string[] = [];
        document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "document.title = 'owned'";
        document.body.append(script);
        const image = new Image();
        image.src = "https://tracker.example/pixel.gif";
        await fetch("https://tracker.example/").catch(() => undefined);
        // Chromium lets the first task of an evaluated script use eval.
        await new Promise((resolve) => setTimeout(resolve, 200));
        try {
            new Function("document.title = 'owned'")();
        } catch {
            blocked.push("eval");
        }
        return { title: document.title, blocked };
    });

    expect(outcomes.title).toBe("LinguaLinked");
    expect(outcomes.blocked).toEqual(expect.arrayContaining(["script-src-elem", "img-src", "connect-src", "eval"]));
    // What was forbidden was reported, and nothing else.
    expect(wrong.splice(0).filter((line) => !line.includes("Content Security Policy") && !line.includes("tracker.example"))).toEqual([]);
    await close();
});
