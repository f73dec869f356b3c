import type { Tiredness } from "./Tiredness";

export type VerdictReason =
    | { kind: "runs", ms_per_token: number }
    | { kind: "would_add", ms_per_token: number }
    | { kind: "not_needed" }
    | { kind: "no_memory", missing_bytes: number }
    | { kind: "unreachable" }
    | { kind: "excluded" }
    | { kind: "tired", why: Tiredness };
