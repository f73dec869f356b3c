/** Serves `dist` for all browser tests, and ends with them. */
import { preview } from "vite";
import type { TestProject } from "vitest/node";

declare module "vitest" {
    interface ProvidedContext {
        url: string;
    }
}

export default async function serve(project: TestProject): Promise<() => Promise<void>> {
    const server = await preview({ preview: { host: "127.0.0.1", port: 0 }, logLevel: "error" });
    const url = server.resolvedUrls?.local[0];
    if (url === undefined) throw new Error("vite preview tells no address");
    project.provide("url", url);
    return () => server.close();
}
