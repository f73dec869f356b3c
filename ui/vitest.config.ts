import { defineConfig } from "vitest/config";

/** Tests beside the code: logic, without a browser and without plugins. Those in `tests/` have a configuration of their own. */
export default defineConfig({
    test: {
        include: ["src/**/*.test.ts"],
        reporters: ["default", "./tests/closing.ts"],
    },
});
