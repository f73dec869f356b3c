import type { Notice } from "./Notice";
import type { PhonePreparation } from "./PhonePreparation";
import type { Problem } from "./Problem";

export type RunPhase =
    | { kind: "preparing", phones: Array<PhonePreparation> }
    | { kind: "ready" }
    /** A change of plan while answers wait. */
    | { kind: "reconfiguring", reason: Notice }
    | { kind: "failed", problem: Problem };
