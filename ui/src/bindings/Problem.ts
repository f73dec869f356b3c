import type { PermissionKind } from "./PermissionKind";
import type { VersionMatch } from "./VersionMatch";

/** Why something could not be done. */
export type Problem =
    | { kind: "no_wifi" }
    | { kind: "isolated" }
    | { kind: "no_permission", permission: PermissionKind }
    | { kind: "not_leader" }
    | { kind: "not_a_link" }
    | { kind: "mistyped" }
    | { kind: "other_version", version: VersionMatch }
    | { kind: "invite_expired" }
    | { kind: "unreachable" }
    | { kind: "memory_short", missing_bytes: number }
    | { kind: "storage_short", missing_bytes: number }
    | { kind: "unsupported", architecture: string }
    /** A file's hash is not what it should be. */
    | { kind: "damaged" }
    | { kind: "metered" }
    | { kind: "no_model" }
    | { kind: "phones_gone", phones: number }
    | { kind: "context_full" }
    | { kind: "busy" }
    | { kind: "other", detail: string };
