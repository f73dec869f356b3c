/** The last line that a test run prints: what passed and failed, for programs. */
import type { Reporter, TestModule } from "vitest/node";

export default class Closing implements Reporter {
    onTestRunEnd(modules: readonly TestModule[]): void {
        const sum = { passed: 0, failed: 0, skipped: 0 };
        for (const module of modules) {
            for (const test of module.children.allTests()) {
                const { state } = test.result();
                if (state === "pending") sum.failed += 1;
                else sum[state] += 1;
            }
            // What cannot be loaded has no test that could say so.
            if (module.errors().length > 0) sum.failed += 1;
        }
        // Vitest's own summary comes after the reporters.
        process.on("exit", () => console.log(JSON.stringify({ event: "tests", ...sum })));
    }
}
