import type { ModelId } from "./ModelId";
import type { PhoneId } from "./PhoneId";
import type { QueuedQuestion } from "./QueuedQuestion";
import type { RunPhase } from "./RunPhase";
import type { Speed } from "./Speed";
import type { Stage } from "./Stage";

/** A model in a group, or on this phone alone. */
export type Run = {
    model: ModelId,
    model_name: string,
    n_layers: number,
    phase: RunPhase,
    /** In ring order, beginning with the head. Empty until there is a plan. */
    stages: Array<Stage>,
    /** The phone that sees words. Null until there is a plan. */
    head: PhoneId | null,
    forecast: Speed | null,
    /** Of the last answers. */
    measured: Speed | null,
    /** Questions under way, in order of arrival. */
    queue: Array<QueuedQuestion>,
};
