import { m } from "../paraglide/messages.js";
import { app } from "./app.svelte";

/** Puts text on the clipboard. Returns whether that was allowed. */
export async function copy(text: string): Promise<boolean> {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        app.toast(m.copy_failed(), "bad");
        return false;
    }
}
