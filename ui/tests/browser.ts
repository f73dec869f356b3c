/** A browser, pages in it that notice what goes wrong, and the ways through the screens that tests share. */
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { AxeBuilder } from "@axe-core/playwright";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, inject } from "vitest";

import de from "../messages/de.json" with { type: "json" };
import en from "../messages/en.json" with { type: "json" };

const EXECUTABLE = process.env["CHROMIUM"] ?? ["/usr/bin/chromium", "/usr/bin/google-chrome"].find(existsSync) ?? "chromium";
const ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
];

export const SHOTS = process.env["LINGUALINKED_SHOTS"] ?? join(tmpdir(), "lingualinked-shots");

export const SIZES = { small: [360, 640], phone: [390, 844], tablet: [820, 1180] } as const;
export type Size = keyof typeof SIZES;

let browser: Browser;

/** Opens one browser for a file of tests. */
export function withBrowser(): void {
    beforeAll(async () => {
        browser = await chromium.launch({ executablePath: EXECUTABLE, args: ARGS });
    });
    afterAll(() => browser.close());
}

export interface Opened {
    page: Page;
    /** What went wrong in the page: errors, violations of the CSP, requests to elsewhere. */
    wrong: string[];
    /** Ends the page, and fails if anything went wrong in it. */
    close: () => Promise<void>;
}

export interface Options {
    demo: string;
    size?: Size;
    theme?: "light" | "dark";
    locale?: string;
    /** How much faster than in life. */
    speed?: number;
    /** Phones do things by themselves. */
    events?: boolean;
    moving?: boolean;
}

export async function open({ demo, size = "phone", theme = "light", locale = "en-US", speed = 10, events = false, moving = false }: Options): Promise<Opened> {
    const [width, height] = SIZES[size];
    const options: BrowserContextOptions = {
        viewport: { width, height }, colorScheme: theme, locale, timezoneId: "Europe/Berlin",
        hasTouch: size !== "tablet", reducedMotion: moving ? "no-preference" : "reduce", acceptDownloads: true,
        permissions: ["clipboard-read", "clipboard-write"],
    };
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    const url = inject("url");
    const wrong: string[] = [];
    page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
    page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") wrong.push(`${message.type()}: ${message.text()}`);
    });
    page.on("request", (request) => {
        if (!request.url().startsWith(url) && !request.url().startsWith("blob:")) wrong.push(`request: ${request.url()}`);
    });
    page.on("dialog", (dialog) => {
        wrong.push(`dialog: ${dialog.message()}`);
        void dialog.dismiss();
    });
    await page.goto(`${url}?demo=${demo}&speed=${speed}${events ? "" : "&calm"}`);
    await page.locator("main").first().waitFor();
    const close = async () => {
        await context.close();
        expect(wrong).toEqual([]);
    };
    return { page, wrong, close };
}

/** What a message looks like on the screen, whatever is put into it: how it begins, or the whole of it. */
export type Say = (key: keyof typeof en, how?: "whole") => RegExp;

export const ENGLISH = saying(en);
export const GERMAN = saying(de);

function saying(messages: Record<string, unknown>): Say {
    return (key, how) => {
        const message = messages[key];
        const variants = Array.isArray(message) ? Object.values(message[0].match as Record<string, string>) : [String(message)];
        const patterns = variants.map((text) => text.split(/\{\w+\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*"));
        return new RegExp(`^(${patterns.join("|")})${how === "whole" ? "$" : ""}`);
    };
}

const TABS = { Chats: "tab_chats", Group: "tab_group", Models: "tab_models", Settings: "tab_settings" } as const;

export async function tab(page: Page, name: keyof typeof TABS, say = ENGLISH): Promise<void> {
    await page.getByRole("navigation").getByRole("button", { name: say(TABS[name]) }).click();
    await page.getByRole("heading", { level: 1, name: say(TABS[name], "whole") }).waitFor();
}

export const button = (page: Page, name: string | RegExp) => page.getByRole("button", { name }).first();

export async function closeSheet(page: Page, say = ENGLISH): Promise<void> {
    await page.getByRole("dialog").getByRole("button", { name: say("close") }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
}

export async function ask(page: Page, text: string, say = ENGLISH): Promise<void> {
    await page.getByRole("textbox", { name: say("composer_label") }).fill(text);
    await button(page, say("composer_send")).click();
}

/** Waits until nothing is being written. */
export async function answered(page: Page, say = ENGLISH): Promise<void> {
    await button(page, say("composer_send")).waitFor({ timeout: 60_000 });
}

/** Accessible, as far as axe can see; nothing wider than the screen; everything large enough to be hit. */
export async function expectSound(page: Page, where: string): Promise<void> {
    const { violations } = await new AxeBuilder({ page }).analyze();
    expect(violations.map(({ id, nodes }) => `${where}: ${id} at ${nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`)).toEqual([]);
    expect(await tooWide(page), `${where}: wider than the screen`).toEqual([]);
    expect(await tooSmall(page), `${where}: too small to be hit`).toEqual([]);
}

function tooWide(page: Page): Promise<string[]> {
    return page.evaluate(() => {
        const width = document.documentElement.clientWidth;
        const scrolls = [document.documentElement, ...document.querySelectorAll("[data-scroller], main section, [role=dialog] > div")];
        return scrolls
            .filter((element) => element.scrollWidth > Math.max(element.clientWidth, 1) + 1 && element.clientWidth > 0 && element.clientWidth <= width)
            .filter((element) => !["auto", "hidden", "clip"].includes(getComputedStyle(element).overflowX) || element.matches("[data-scroller]") || element === document.documentElement)
            .map((element) => element.outerHTML.slice(0, 160));
    });
}

/** 44 px, as both systems ask for. Links within a sentence are as high as their line. */
function tooSmall(page: Page): Promise<string[]> {
    return page.evaluate(() =>
        [...document.querySelectorAll("button, summary, input, textarea, [role=switch], [role=radio]")]
            .filter((element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
            .filter((element) => {
                const { width, height } = element.getBoundingClientRect();
                return width > 1 && (width < 43.5 || height < 43.5);
            })
            .map((element) => `${Math.round(element.getBoundingClientRect().width)}×${Math.round(element.getBoundingClientRect().height)} ${element.outerHTML.slice(0, 120)}`),
    );
}
