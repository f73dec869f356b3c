import type { Problem } from "./Problem";

export type AnswerOutcome =
    | { kind: "under_way" }
    | { kind: "complete" }
    /** The limit of tokens, or the context, is used up. */
    | { kind: "cut_off" }
    | { kind: "stopped" }
    | { kind: "failed", problem: Problem };
