/**
 * Which screen is shown, and what lies over it.
 *
 * The browser's history follows, because Android's back gesture goes by it: an entry for the tab, one for a screen that was
 * opened from it, one for each sheet over that. So there is as much to go back from as can be seen, whichever way it came
 * and however it goes. Between tabs there is no way back: there the gesture leaves the app, as it does elsewhere.
 */

export type Route =
    | { at: "chats" }
    | { at: "chat"; conversation: string; message?: string }
    | { at: "group" }
    | { at: "models" }
    | { at: "model"; model: string }
    | { at: "settings"; page?: "limits" | "looks" | "privacy" | "licences" | "diagnostics" };

export type Tab = "chats" | "group" | "models" | "settings";

interface Sheet {
    close: () => void;
}

class Router {
    now = $state.raw<Route>({ at: "chats" });
    /** The topmost last. */
    private sheets: Sheet[] = [];
    /** The entry of the history that stands for a tab. Not 0 where the page was loaded again over a screen or a sheet. */
    private base = 0;
    /** The entry that the history is at. */
    private depth = 0;
    /** The entry that the history is on its way to, at our wish. It gets there later. */
    private bound: number | null = null;
    private settling = false;

    constructor() {
        if (typeof window === "undefined") return;
        window.addEventListener("popstate", ({ state }: PopStateEvent) => this.moved(depthOf(state)));
        this.base = this.depth = depthOf(history.state);
    }

    get tab(): Tab {
        if (this.now.at === "chat") return "chats";
        if (this.now.at === "model") return "models";
        return this.now.at;
    }

    go(route: Route): void {
        this.now = route;
        this.settle();
    }

    switch(tab: Tab): void {
        this.go({ at: tab });
    }

    /** The screen above, whether or not it was visited. */
    up(): void {
        this.switch(this.tab);
    }

    /** A sheet lies over the screen, and `close` puts it away. Returns what is to be called once it is gone. */
    cover(close: () => void): () => void {
        const sheet = { close };
        this.sheets.push(sheet);
        this.settle();
        return () => {
            this.sheets = this.sheets.filter((other) => other !== sheet);
            this.settle();
        };
    }

    /** Whether a screen is shown that was opened from another, and leads back to it. */
    private get deep(): boolean {
        return this.now.at === "chat" || this.now.at === "model" || (this.now.at === "settings" && this.now.page !== undefined);
    }

    /** What lies on top goes. */
    private back(): void {
        const sheet = this.sheets.pop();
        if (sheet !== undefined) sheet.close();
        else if (this.deep) this.up();
    }

    /** The history has moved, by the gesture or at our wish. */
    private moved(depth: number): void {
        const from = this.bound ?? this.depth;
        this.depth = depth;
        this.base = Math.min(this.base, depth);
        this.bound = null;
        for (let step = depth; step < from; step++) this.back();
        this.settle();
    }

    /** Makes the history as deep as what is shown, once all has been said: a sheet often gives way to another. */
    private settle(): void {
        if (this.settling || typeof window === "undefined") return;
        this.settling = true;
        queueMicrotask(() => {
            this.settling = false;
            if (this.bound !== null) return;
            const wanted = this.base + (this.deep ? 1 : 0) + this.sheets.length;
            if (this.depth > wanted) {
                this.bound = wanted;
                history.go(wanted - this.depth);
            }
            while (this.depth < wanted) history.pushState(++this.depth, "");
        });
    }
}

function depthOf(state: unknown): number {
    return typeof state === "number" ? state : 0;
}

export const router = new Router();
