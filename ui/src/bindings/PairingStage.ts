import type { PairingEnd } from "./PairingEnd";

export type PairingStage =
    | { kind: "connecting" }
    /** Both screens show the code; this phone's person has not said anything yet. */
    | { kind: "compare" }
    /** This phone's person said yes; the other's has not. */
    | { kind: "agreed_here" }
    /** Both said yes; the leader's phone has to let them in. */
    | { kind: "entering" }
    | { kind: "ended", end: PairingEnd };
