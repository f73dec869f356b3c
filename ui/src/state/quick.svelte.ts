/**
 * A first chat with one tap: the smallest model that fits is got, started, and talked to.
 *
 * It goes on while other screens are shown, and after an error that somebody has dealt with; a conversation opens only
 * where one would look for it.
 */
import type { AppState } from "../bindings/AppState";
import type { Model } from "../bindings/Model";
import type { ModelId } from "../bindings/ModelId";
import { app } from "./app.svelte";
import { router } from "./route.svelte";

class Quick {
    /** The model that somebody waits for. */
    model = $state<ModelId | null>(null);
    private started = false;
    private unsubscribe: (() => void) | null = null;

    /** What to offer; undefined where a model is at hand already, or none fits. */
    offer(models: Model[]): Model | undefined {
        if (models.some(({ availability }) => availability.kind === "here" || availability.kind === "in_group")) return undefined;
        return models
            .filter((model) => !model.imported && (model.fits_here.kind === "fits" || model.fits_here.kind === "tight"))
            .reduce<Model | undefined>((best, next) => (best === undefined || next.file_bytes < best.file_bytes ? next : best), undefined);
    }

    async begin(model: ModelId): Promise<void> {
        this.end();
        this.model = model;
        this.unsubscribe = app.backend.notices((what) => {
            if (what.kind === "start_failed") this.end();
        });
        if (!(await app.do((backend) => backend.download(model)))) this.end();
    }

    /** Takes the next step, if the state allows it. */
    follow({ models, run }: AppState): void {
        const model = models.find((model) => model.id === this.model);
        if (model === undefined) return;
        if (run?.model === model.id && run.phase.kind === "ready") void this.talk();
        else if (run?.model === model.id && run.phase.kind === "failed") this.end();
        else if (model.availability.kind === "here" && !this.started) void this.start(model.id);
    }

    /** What has come is kept. */
    async stop(): Promise<void> {
        const { model, started } = this;
        this.end();
        if (model !== null) await app.do((backend) => (started ? backend.stop() : backend.pauseDownload(model)));
    }

    private async start(model: ModelId): Promise<void> {
        this.started = true;
        if (!(await app.do((backend) => backend.start(model)))) this.end();
    }

    private async talk(): Promise<void> {
        this.end();
        if (router.now.at !== "chats") return;
        await app.do(async (backend) => router.go({ at: "chat", conversation: await backend.createConversation() }));
    }

    private end(): void {
        this.unsubscribe?.();
        this.unsubscribe = null;
        this.model = null;
        this.started = false;
    }
}

export const quick = new Quick();
