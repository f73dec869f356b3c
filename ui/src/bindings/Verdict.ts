import type { PhoneId } from "./PhoneId";
import type { VerdictReason } from "./VerdictReason";

export type Verdict = { phone: PhoneId, reason: VerdictReason };
