/** Chooses the world: the app where there is one, else a demo. Each is fetched only where it is used. */
import type { Backend } from "./backend";

declare global {
    interface Window {
        __TAURI_INTERNALS__?: unknown;
    }
}

export async function connect(search: string): Promise<Backend> {
    if (window.__TAURI_INTERNALS__ !== undefined) {
        return new (await import("./tauri")).TauriBackend();
    }
    return (await import("./demo/demo")).demoFrom(new URLSearchParams(search));
}
