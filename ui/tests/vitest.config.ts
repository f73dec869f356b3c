import { defineConfig } from "vitest/config";

/** Tests in Debian's Chromium, against the built screens under the app's CSP. */
export default defineConfig({
    test: {
        include: ["tests/*.test.ts"],
        globalSetup: ["tests/serve.ts"],
        reporters: ["default", "./tests/closing.ts"],
        // Ten times what it takes on a quiet machine.
        testTimeout: 300_000,
        hookTimeout: 60_000,
        // One file at a time, so that frames are measured alone; walks through screens side by side, because most of what
        // they do is to wait.
        fileParallelism: false,
        maxConcurrency: 2,
    },
});
