import { defineConfig, mergeConfig } from "vitest/config";

import vite from "./vite.config.ts";

/** Tests beside the code: logic, without a browser. Those in `tests/` have a configuration of their own. */
export default mergeConfig(
    vite,
    defineConfig({
        test: {
            include: ["src/**/*.test.ts"],
            reporters: ["default", "./tests/closing.ts"],
        },
    }),
);
