import { defineConfig } from "vitest/config";

/** Tests in Debian's Chromium, against the built screens under the app's CSP. */
export default defineConfig({
    test: {
        include: ["tests/*.test.ts"],
        globalSetup: ["tests/serve.ts"],
        reporters: ["default", "./tests/closing.ts"],
        testTimeout: 120_000,
        hookTimeout: 60_000,
        // Two at a time: each has a browser of its own, and frames are measured alone (`speed.test.ts` comes first).
        maxWorkers: 1,
        fileParallelism: false,
    },
});
