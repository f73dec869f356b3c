import { m } from "../paraglide/messages.js";
import { app } from "./app.svelte";

/** Puts text on the clipboard. Returns whether that was allowed. */
export async function copy(text: string): Promise<boolean> {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        if (copyByCommand(text)) return true;
        app.toast(m.copy_failed(), "bad");
        return false;
    }
}

/** The older way, which some WebViews allow where they do not allow the other. */
function copyByCommand(text: string): boolean {
    let taken = false;
    const fill = (event: ClipboardEvent) => {
        event.clipboardData?.setData("text/plain", text);
        event.preventDefault();
        taken = true;
    };
    document.addEventListener("copy", fill, true);
    const done = document.execCommand("copy");
    document.removeEventListener("copy", fill, true);
    return taken && done;
}
