/** Which screen is shown. The browser's history keeps the way back, so that Android's back gesture works. */

export type Route =
    | { at: "chats" }
    | { at: "chat"; conversation: string; message?: string }
    | { at: "group" }
    | { at: "models" }
    | { at: "model"; model: string }
    | { at: "settings"; page?: "limits" | "looks" | "privacy" | "licences" | "diagnostics" };

export type Tab = "chats" | "group" | "models" | "settings";

class Router {
    now = $state.raw<Route>({ at: "chats" });

    constructor() {
        if (typeof window === "undefined") return;
        window.addEventListener("popstate", (event: PopStateEvent) => {
            this.now = (event.state as Route | null) ?? { at: "chats" };
        });
    }

    get tab(): Tab {
        if (this.now.at === "chat") return "chats";
        if (this.now.at === "model") return "models";
        return this.now.at;
    }

    /** Whether a screen is shown that was opened from another, and leads back to it. */
    get deep(): boolean {
        return this.now.at === "chat" || this.now.at === "model" || (this.now.at === "settings" && this.now.page !== undefined);
    }

    go(route: Route): void {
        this.now = route;
        history.pushState(route, "");
    }

    /** Between tabs there is no way back: the back gesture leaves the app, as it does elsewhere. */
    switch(tab: Tab): void {
        this.now = { at: tab };
        history.replaceState(this.now, "");
    }

    /** The screen above, whether or not it was visited. */
    up(): void {
        this.switch(this.tab);
    }
}

export const router = new Router();
