/** Every screen, at three sizes, light and dark: sound, quiet, and photographed. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import type { Page } from "playwright-core";
import { beforeAll, describe, expect, test } from "vitest";

import { SHOTS, SIZES, answered, ask, button, closeSheet, expectSound, open, tab, withBrowser, type Size } from "./browser.ts";

withBrowser();
beforeAll(() => void mkdirSync(SHOTS, { recursive: true }));

type See = (name: string) => Promise<void>;

/** A walk begins in a state of the demo, and shows screens on its way. */
const WALKS: Record<string, { demo: string; walk: (page: Page, see: See) => Promise<void> }> = {
    fresh: { demo: "fresh", walk: async (page, see) => {
        await see("welcome");
        await page.getByRole("textbox").fill("Mira’s phone");
        await button(page, "Continue").click();
        await see("permissions");
        await button(page, /Allow: Find/).click();
        await page.getByText("Allowed").waitFor();
        await button(page, "Continue").click();
        await see("begin");
    } },
    nearby: { demo: "nearby", walk: async (page, see) => {
        await see("chats-none");
        await tab(page, "Group");
        await page.getByText("Grandpa’s phone").waitFor();
        await see("nearby");
        await button(page, "Join with a code").click();
        await page.getByRole("textbox").fill("nonsense");
        await page.getByRole("dialog").getByRole("button", { name: "Join", exact: true }).click();
        await page.getByText("neither an invite link nor a code").waitFor();
        await see("join");
    } },
    asked: { demo: "asked", walk: async (page, see) => {
        await page.getByText("Does").waitFor();
        await see("pairing-asked");
        await button(page, "Yes, the same").click();
        await page.getByText("You said yes").waitFor();
        await see("pairing-agreed");
    } },
    chats: { demo: "group", walk: async (page, see) => {
        await see("chats");
        await page.getByRole("searchbox").fill("sky");
        await page.getByText("hit").first().waitFor();
        await see("search");
        await page.getByRole("searchbox").fill("");
        await button(page, /How a ring works/).click();
        await page.getByText("Only the first phone").waitFor();
        await see("chat");
        await button(page, /First word/).click();
        await see("figures");
        await closeSheet(page);
        await button(page, "Menu of this conversation").click();
        await see("chat-menu");
        await button(page, "How it answers").click();
        await page.getByText("Finer settings").click();
        await see("chat-options");
        await closeSheet(page);
        if (await button(page, "Back").isVisible()) await button(page, "Back").click();
        await button(page, "New conversation").click();
        await page.getByText("What would you like to know?").waitFor();
        await see("chat-new");
        await ask(page, "Compare the models for me");
        await answered(page);
        await see("chat-table");
    } },
    group: { demo: "group", walk: async (page, see) => {
        await tab(page, "Group");
        await page.getByText("What happened").waitFor();
        await see("group");
        await page.locator("[data-scroller]").evaluate((element) => (element.scrollTop = element.scrollHeight));
        await see("group-below");
        await button(page, /Sam/).click();
        await see("member");
        await closeSheet(page);
        await button(page, "Add a phone").click();
        await page.getByRole("img", { name: "QR code" }).waitFor();
        await see("invite");
        await closeSheet(page);
        await button(page, "Leave the group").click();
        await see("leave");
    } },
    models: { demo: "group", walk: async (page, see) => {
        await tab(page, "Models");
        await see("models");
        await button(page, /Llama 3.2 3B/).click();
        await page.getByText(/Without .*Sam/).waitFor();
        await see("model");
    } },
    settings: { demo: "group", walk: async (page, see) => {
        await tab(page, "Settings");
        await see("settings");
        for (const [name, title] of [["limits", "What this phone gives"], ["privacy", "What others can see"], ["looks", "Appearance"], ["diagnostics", "Diagnostics"], ["licences", "About and"]] as const) {
            await button(page, new RegExp(`^${title}`)).click();
            await page.getByRole("heading", { level: 1, name: new RegExp(title) }).waitFor();
            if (name === "licences") await page.getByText("virtua").waitFor();
            if (name === "diagnostics") await page.getByText("LinguaLinked 0.1.0").waitFor();
            await see(name);
            await button(page, "Back").click();
        }
    } },
    preparing: { demo: "preparing", walk: async (page, see) => {
        await tab(page, "Group");
        await see("preparing");
    } },
    too_big: { demo: "too_big", walk: async (page, see) => {
        await tab(page, "Models");
        await button(page, /Qwen3 14B/).click();
        await page.getByText("Add a phone with").waitFor();
        await see("too-big");
    } },
    damaged: { demo: "damaged", walk: async (page, see) => {
        await page.getByText("history.db-damaged").waitFor();
        await see("set-aside");
        await button(page, "Put this message away").click();
        await page.getByText("history.db-damaged").waitFor({ state: "detached" });
        await tab(page, "Models");
        await page.getByText("Does this Wi-Fi want you to log in first?").waitFor();
        await see("download-failed");
        await tab(page, "Group");
        await button(page, "Join with a code").click();
        await button(page, "Scan the QR code").click();
        await page.getByText("The camera may not be used").waitFor();
        await see("camera-denied");
        await page.getByRole("dialog").getByRole("button", { name: "Settings" }).click();
    } },
    many: { demo: "many", walk: async (page, see) => {
        await tab(page, "Group");
        await page.getByText("What happened").waitFor();
        await see("many");
    } },
    solo: { demo: "solo", walk: async (page, see) => {
        await tab(page, "Group");
        await page.getByRole("heading", { name: "On this phone" }).waitFor();
        await see("solo");
    } },
    no_wifi: { demo: "no_wifi", walk: async (page, see) => {
        await tab(page, "Group");
        await see("no-wifi");
    } },
    no_permission: { demo: "no_permission", walk: async (page, see) => {
        await tab(page, "Group");
        await see("no-permission");
    } },
    isolated: { demo: "isolated", walk: async (page, see) => {
        await tab(page, "Group");
        await see("isolated");
        await button(page, "Join with a code").click();
        await button(page, "Scan the QR code").click();
        await page.getByRole("dialog", { name: "Hold the code in the frame" }).waitFor();
        await see("scanning");
        await button(page, "Cancel").click();
        await page.getByRole("dialog", { name: "Join with a code" }).waitFor();
    } },
};

describe.concurrent.each(Object.keys(SIZES) as Size[])("%s", (size) => {
    describe.each(["light", "dark"] as const)("%s", (theme) => {
        test.each(Object.keys(WALKS))("%s", async (name) => {
            const { demo, walk } = WALKS[name] ?? { demo: "", walk: () => Promise.reject(new Error(`no walk ${name}`)) };
            const { page, close } = await open({ demo, size, theme, speed: demo === "preparing" ? 1 : 10 });
            let n = 0;

            await walk(page, async (name) => {
                await page.waitForTimeout(150);
                await page.screenshot({ path: join(SHOTS, `${name}-${size}-${theme}.png`) });
                await expectSound(page, name);
                n += 1;
            });

            expect(n).toBeGreaterThan(0);
                    await close();
        });
    });
});

test("in German, on the smallest screen, nothing is wider than it", async () => {
    const { page, close } = await open({ demo: "group", size: "small", locale: "de-DE" });

    for (const [name, heading] of [["Gruppe", "Gruppe"], ["Modelle", "Modelle"], ["Einstellungen", "Einstellungen"], ["Chats", "Chats"]] as const) {
        await page.getByRole("navigation").getByRole("button", { name }).click();
        await page.getByRole("heading", { level: 1, name: heading }).waitFor();
        await page.waitForTimeout(150);
        await page.screenshot({ path: join(SHOTS, `german-${heading.toLowerCase()}.png`) });
        await expectSound(page, name);
    }
    await button(page, /How a ring works/).click();
    await page.getByRole("textbox", { name: "Frag etwas" }).waitFor();
    await expectSound(page, "chat");

    await close();
});

test("the language can be changed, and is kept", async () => {
    const { page, close } = await open({ demo: "group" });
    await tab(page, "Settings");
    await button(page, /Appearance/).click();

    await page.getByRole("radio", { name: "Deutsch" }).click();
    await page.getByRole("heading", { name: "Aussehen und Sprache" }).waitFor();
    expect(await page.locator("html").getAttribute("lang")).toBe("de");

    await page.reload();
    await page.getByRole("navigation").getByRole("button", { name: "Gruppe" }).waitFor();
    await close();
});

test.each(["small", "normal", "large", "largest"])("with %s text, everything stays on a small screen", async (text) => {
    const { page, close } = await open({ demo: "group", size: "small" });
    await page.evaluate((text) => (document.documentElement.dataset["text"] = text), text);

    for (const name of ["Group", "Models", "Settings", "Chats"] as const) {
        await tab(page, name);
        await page.waitForTimeout(100);
        await expectSound(page, `${name} with ${text} text`);
    }
    await close();
});

test("in a right-to-left page nothing falls out of it", async () => {
    const { page, close } = await open({ demo: "group", size: "small" });
    await page.evaluate(() => (document.documentElement.dir = "rtl"));

    for (const name of ["Group", "Models", "Settings", "Chats"] as const) {
        await tab(page, name);
        await page.waitForTimeout(100);
        await page.screenshot({ path: join(SHOTS, `rtl-${name.toLowerCase()}.png`) });
        await expectSound(page, `${name}, right to left`);
    }
    await close();
});
