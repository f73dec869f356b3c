import type { PairingPurpose } from "./PairingPurpose";
import type { PairingStage } from "./PairingStage";
import type { PhoneId } from "./PhoneId";

/** Two phones on their way into one group. */
export type Pairing = {
    phone: PhoneId,
    name: string,
    purpose: PairingPurpose,
    /** Whether the other phone asked. */
    asked_by_them: boolean,
    /** Six digits that both screens show, as `042 917`; null until both phones know them. */
    code: string | null,
    stage: PairingStage,
};
