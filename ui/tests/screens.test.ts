/** Every screen, at three sizes, light and dark, in German, and right to left: sound, quiet, and photographed. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import type { Page } from "playwright-core";
import { beforeAll, describe, expect, test } from "vitest";

import {
    ENGLISH, GERMAN, SHOTS, answered, ask, button, closeSheet, expectSound, open, tab, withBrowser, type Say, type Size,
} from "./browser.ts";

withBrowser();
beforeAll(() => void mkdirSync(SHOTS, { recursive: true }));

type See = (name: string) => Promise<void>;

interface Walk {
    demo: string;
    /** How much faster than in life, if not ten times. */
    speed?: number;
    walk: (page: Page, see: See, say: Say) => Promise<void>;
}

/** A walk begins in a state of the demo, and shows screens on its way. */
const WALKS: Record<string, Walk> = {
    fresh: { demo: "fresh", walk: async (page, see, say) => {
        await see("welcome");
        await page.getByRole("textbox").fill("Mira’s phone");
        await button(page, say("welcome_next")).click();
        await see("permissions");
        await button(page, say("permission_allow_what")).click();
        await page.getByText(say("permission_granted")).waitFor();
        await button(page, say("welcome_next")).click();
        await see("begin");
    } },
    nearby: { demo: "nearby", walk: async (page, see, say) => {
        await see("chats-none");
        await tab(page, "Group", say);
        await page.getByText("Grandpa’s phone").waitFor();
        await see("nearby");
        await button(page, say("group_join")).click();
        await page.getByRole("textbox").fill("nonsense");
        await page.getByRole("dialog").getByRole("button", { name: say("join_go", "whole") }).click();
        await page.getByText(say("problem_not_a_link")).waitFor();
        await see("join");
        await page.getByRole("textbox").fill("lingualinked://join?v=2");
        await page.getByRole("dialog").getByRole("button", { name: say("join_go", "whole") }).click();
        await page.getByText(say("version_ours_older")).waitFor();
        await see("join-version");
    } },
    asked: { demo: "asked", walk: async (page, see, say) => {
        await page.getByText(say("pairing_compare")).waitFor();
        await see("pairing-asked");
        await button(page, say("pairing_same")).click();
        await page.getByText(say("pairing_you_agreed")).waitFor();
        await see("pairing-agreed");
    } },
    ended: { demo: "ended", walk: async (page, see, say) => {
        for (const end of ["declined", "unreachable", "bad_code", "other_version"] as const) {
            await page.getByText(say(`pairing_${end}`)).waitFor();
            await see(`pairing-${end.replace("_", "-")}`);
            await button(page, say("done")).click();
        }
        await page.getByRole("dialog").waitFor({ state: "detached" });
    } },
    invited: { demo: "invited", walk: async (page, see, say) => {
        await page.getByRole("dialog", { name: say("opened_invite_title") }).waitFor();
        await see("invited");
        await button(page, say("opened_invite_later")).click();
        await page.getByText(say("invite_expired")).waitFor();
        await see("invite-expired");
        await button(page, say("invite_new")).click();
        await page.getByText(say("invite_expires")).waitFor();
        await see("invite-renewed");
    } },
    chats: { demo: "group", walk: async (page, see, say) => {
        await see("chats");
        await page.getByRole("searchbox").fill("sky");
        await page.getByText(say("chats_hits")).first().waitFor();
        await see("search");
        await page.getByRole("searchbox").fill("");
        await button(page, /How a ring works/).click();
        await page.getByText("Only the first phone").waitFor();
        await see("chat");
        await button(page, say("figures_line")).click();
        await see("figures");
        await closeSheet(page, say);
        await button(page, say("chat_menu")).click();
        await see("chat-menu");
        await button(page, say("options_title")).click();
        await page.getByText(say("options_finer")).click();
        await see("chat-options");
        await closeSheet(page, say);
        if (await button(page, say("back")).isVisible()) await button(page, say("back")).click();
        await button(page, say("chats_new")).click();
        await page.getByText(say("chat_begin")).waitFor();
        await see("chat-new");
        await ask(page, "Compare the models for me", say);
        await answered(page, say);
        await see("chat-table");
    } },
    group: { demo: "group", walk: async (page, see, say) => {
        await tab(page, "Group", say);
        await page.getByText(say("group_happened")).waitFor();
        await see("group");
        await page.locator("[data-scroller]").evaluate((element) => (element.scrollTop = element.scrollHeight));
        await see("group-below");
        await button(page, /Sam/).click();
        await see("member");
        await closeSheet(page, say);
        await button(page, say("group_add")).click();
        await page.getByRole("img", { name: say("invite_qr") }).waitFor();
        await see("invite");
        await closeSheet(page, say);
        await button(page, say("group_leave")).click();
        await see("leave");
    } },
    models: { demo: "group", walk: async (page, see, say) => {
        await tab(page, "Models", say);
        await see("models");
        await button(page, /Llama 3.2 3B/).click();
        await page.getByText(say("outlook_without")).first().waitFor();
        await see("model");
        await button(page, say("back")).click();
        await button(page, /SmolLM2 135M/).click();
        await page.getByText(say("verdict_would_add")).first().waitFor();
        await see("model-alone");
    } },
    settings: { demo: "group", walk: async (page, see, say) => {
        await tab(page, "Settings", say);
        await see("settings");
        for (const page_ of ["limits", "privacy", "looks", "diagnostics", "about"] as const) {
            const title = say(`${page_}_title`);
            await button(page, title).click();
            await page.getByRole("heading", { level: 1, name: title }).waitFor();
            if (page_ === "about") await page.getByText("llama.cpp and ggml").waitFor();
            if (page_ === "diagnostics") await page.getByText("LinguaLinked 0.1.0").waitFor();
            await see(page_ === "about" ? "licences" : page_);
            await button(page, say("back")).click();
        }
    } },
    preparing: { demo: "preparing", speed: 1, walk: async (page, see, say) => {
        await tab(page, "Group", say);
        await see("preparing");
    } },
    too_big: { demo: "too_big", walk: async (page, see, say) => {
        await tab(page, "Models", say);
        await button(page, /Qwen3 14B/).click();
        await page.getByText(say("help_another_phone")).waitFor();
        await see("too-big");
    } },
    damaged: { demo: "damaged", walk: async (page, see, say) => {
        await page.getByText("history.db-damaged").waitFor();
        await see("set-aside");
        await button(page, say("toast_dismiss")).click();
        await page.getByText("history.db-damaged").waitFor({ state: "detached" });
        await tab(page, "Models", say);
        await page.getByText(say("problem_server_wrong_length")).waitFor();
        await see("download-failed");
        await button(page, say("import_again")).scrollIntoViewIfNeeded();
        await see("import-gone");
        await button(page, say("remove")).click();
        await page.getByRole("dialog").getByText(say("model_remove_note")).waitFor();
        await see("import-remove");
    } },
    camera: { demo: "damaged", walk: async (page, see, say) => {
        await button(page, say("toast_dismiss")).click();
        await page.getByText("history.db-damaged").waitFor({ state: "detached" });
        await tab(page, "Group", say);
        await button(page, say("group_join")).click();
        await button(page, say("join_scan")).click();
        await page.getByText(say("problem_no_camera")).waitFor();
        await see("camera-denied");
        await page.getByRole("dialog").getByRole("button", { name: say("permission_settings") }).click();
    } },
    scanning: { demo: "isolated", walk: async (page, see, say) => {
        await tab(page, "Group", say);
        await button(page, say("group_join")).click();
        await button(page, say("join_scan")).click();
        await page.getByRole("dialog", { name: say("scan_title") }).waitFor();
        await see("scanning");
        await button(page, say("cancel")).click();
        await page.getByRole("dialog", { name: say("join_title") }).waitFor();
    } },
    unsteady: { demo: "unsteady", speed: 1, walk: async (page, see, say) => {
        await button(page, say("quick_get")).click();
        await page.getByRole("progressbar", { name: say("download_label") }).waitFor();
        await see("one-tap");
        await page.getByText(say("problem_server_breaks_off")).waitFor();
        await see("one-tap-failed");
    } },
    many: { demo: "many", walk: async (page, see, say) => {
        await tab(page, "Group", say);
        await page.getByText(say("group_happened")).waitFor();
        await see("many");
    } },
    solo: { demo: "solo", walk: async (page, see, say) => {
        await tab(page, "Group", say);
        await page.getByRole("heading", { name: say("run_here") }).waitFor();
        await see("solo");
    } },
    ...Object.fromEntries(["no_wifi", "no_permission", "isolated", "failed"].map((demo): [string, Walk] => [demo, {
        demo,
        walk: async (page, see, say) => {
            await tab(page, "Group", say);
            await see(demo.replace("_", "-"));
        },
    }])),
};

async function take(name: string, looks: { size: Size; theme?: "light" | "dark"; language?: "German"; change?: () => void }, shot: string): Promise<void> {
    const { demo, speed = 10, walk } = WALKS[name] ?? { demo: "", walk: () => Promise.reject(new Error(`no walk ${name}`)) };
    const { size, theme = "light", language, change } = looks;
    const { page, close } = await open({ demo, size, theme, speed, locale: language === "German" ? "de-DE" : "en-US" });
    if (change !== undefined) await page.evaluate(change);
    let n = 0;

    await walk(page, async (name) => {
        await page.waitForTimeout(150);
        await page.screenshot({ path: join(SHOTS, `${name}-${shot}.png`) });
        await expectSound(page, `${name}-${shot}`);
        n += 1;
    }, language === "German" ? GERMAN : ENGLISH);

    expect(n).toBeGreaterThan(0);
    await close();
}

describe.concurrent("looks", () => {
    // Colours are the same on the smallest screen: what is dark there goes from right to left.
    describe.each([["small", "light"], ["phone", "light"], ["phone", "dark"], ["tablet", "light"], ["tablet", "dark"]] as const)("%s, %s", (size, theme) => {
        test.each(Object.keys(WALKS))("%s", (name) => take(name, { size, theme }, `${size}-${theme}`));
    });

    // The longest words in the largest letters on the smallest screen; what holds there holds with shorter and smaller ones.
    test.each(Object.keys(WALKS))("German, with the largest text: %s", (name) =>
        take(name, { size: "small", language: "German", change: () => (document.documentElement.dataset["text"] = "largest") }, "german"),
    );

    test.each(Object.keys(WALKS))("right to left: %s", (name) =>
        take(name, { size: "small", theme: "dark", change: () => (document.documentElement.dir = "rtl") }, "rtl"),
    );
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
