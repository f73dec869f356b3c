import type { Help } from "./Help";
import type { PhoneId } from "./PhoneId";
import type { Speed } from "./Speed";
import type { Stage } from "./Stage";

export type Outlook =
    | { kind: "runs", speed: Speed, stages: Array<Stage>, slowest: PhoneId, fetch_bytes: number }
    | { kind: "does_not_fit", missing_bytes: number, helps: Array<Help> }
    | { kind: "unknown", phone: PhoneId };
