import type { PhoneId } from "./PhoneId";
import type { Problem } from "./Problem";

export type ModelAvailability =
    | { kind: "not_here" }
    | { kind: "downloading", done_bytes: number, rate_bytes_s: number }
    | { kind: "paused", done_bytes: number }
    | { kind: "checking", done_bytes: number }
    | { kind: "failed", problem: Problem }
    | { kind: "here" }
    /** Not on this phone, but on one of the group. */
    | { kind: "in_group", phone: PhoneId };
