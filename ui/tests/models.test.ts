/** Getting models. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, test } from "vitest";

import { SHOTS, button, expectSound, open, tab, withBrowser } from "./browser.ts";

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
