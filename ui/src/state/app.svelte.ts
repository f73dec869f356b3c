/** What all screens share: the backend, its state, and short messages about what was done. */
import { untrack } from "svelte";

import type { AppState } from "../bindings/AppState";
import type { Group } from "../bindings/Group";
import type { Member } from "../bindings/Member";
import type { Model } from "../bindings/Model";
import type { PhoneId } from "../bindings/PhoneId";
import { Refused, type Backend } from "../backend/backend";
import { m } from "../paraglide/messages.js";
import { cleanName } from "../text/plain";
import { notice, problem } from "../text/sentences";

export interface Toast {
    id: number;
    text: string;
    tone: "plain" | "bad";
    /** Stays until somebody puts it away. */
    lasts: boolean;
}

/** Long enough to read two lines twice. */
const TOAST_MS = 6000;

/** More would cover the screen; the oldest goes. */
const TOASTS_MAX = 3;

class App {
    state = $state.raw<AppState | null>(null);
    toasts = $state.raw<Toast[]>([]);
    private nextToast = 1;
    private connected: Backend | null = null;

    connect(backend: Backend): void {
        this.connected = backend;
        backend.watch((state) => (this.state = state));
        backend.notices((what) => {
            // It says where a file is that somebody may want to copy.
            const lasts = what.kind === "history_set_aside";
            this.toast(notice(what), lasts || what.kind === "start_failed" ? "bad" : "plain", lasts);
        });
    }

    get backend(): Backend {
        if (this.connected === null) throw new Error("screens are shown only once there is a backend");
        return this.connected;
    }

    /** The state, for screens that are shown only when it is there. */
    get now(): AppState {
        if (this.state === null) throw new Error("screens are shown only once there is a state");
        return this.state;
    }

    get group(): Group | null {
        return this.now.group;
    }

    get leads(): boolean {
        return this.group !== null && this.group.leader === this.now.me;
    }

    member(id: PhoneId): Member | undefined {
        return this.group?.members.find((member) => member.id === id);
    }

    model(id: string): Model | undefined {
        return this.now.models.find((model) => model.id === id);
    }

    /** What a phone is called, safe to show. */
    nameOf(id: PhoneId): string {
        const known =
            id === this.now.me
                ? this.now.name
                : (this.member(id)?.name ?? this.now.nearby.find((phone) => phone.id === id)?.name);
        return cleanName(known ?? "") || m.unnamed_phone();
    }

    /** Runs a command; a refusal becomes a message. Returns whether it was taken up. */
    async do(command: (backend: Backend) => Promise<unknown>): Promise<boolean> {
        try {
            await command(this.backend);
            return true;
        } catch (error) {
            if (!(error instanceof Refused)) throw error;
            this.toast(problem(error.problem), "bad");
            return false;
        }
    }

    toast(text: string, tone: Toast["tone"] = "plain", lasts = false): void {
        const id = this.nextToast++;
        const toasts = [...untrack(() => this.toasts), { id, text, tone, lasts }];
        const passing = toasts.filter((toast) => !toast.lasts).slice(-TOASTS_MAX);
        this.toasts = toasts.filter((toast) => toast.lasts || passing.includes(toast));
        if (!lasts) setTimeout(() => this.dismiss(id), TOAST_MS);
    }

    dismiss(id: number): void {
        this.toasts = this.toasts.filter((toast) => toast.id !== id);
    }
}

export const app = new App();
