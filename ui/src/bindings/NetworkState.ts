/** Whether this phone can reach others, and if not, why not. */
export type NetworkState =
    | { kind: "ok" } | { kind: "looking" } | { kind: "no_wifi" }
    /** On a Wi-Fi that keeps its phones apart (guest networks do). */
    | { kind: "isolated" }
    | { kind: "no_permission" }
    | { kind: "failed", detail: string };
