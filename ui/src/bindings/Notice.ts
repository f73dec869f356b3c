import type { PairingEnd } from "./PairingEnd";
import type { RebalanceReason } from "./RebalanceReason";

/** Something that a person should be told, once. */
export type Notice =
    | { kind: "phone_joined", name: string, phones: number }
    | { kind: "phone_left", name: string, phones: number }
    | { kind: "phone_lost", name: string, phones: number }
    | { kind: "removed", name: string }
    /** This phone was removed from its group. */
    | { kind: "you_were_removed" }
    | { kind: "leader_changed", name: string }
    | { kind: "rebalanced", name: string, reason: RebalanceReason }
    /** The answer goes on after a change. */
    | { kind: "continuing", phones: number }
    | { kind: "continuing_alone" }
    /** Too few phones for this model. */
    | { kind: "too_small", missing_bytes: number }
    | { kind: "model_ready", model: string, phones: number }
    | { kind: "pairing_ended", name: string, end: PairingEnd }
    | { kind: "download_done", model: string }
    | { kind: "file_saved", path: string };
