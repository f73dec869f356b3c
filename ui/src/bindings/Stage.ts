import type { PhoneId } from "./PhoneId";

export type Stage = {
    phone: PhoneId,
    /** Half-open: first, and one past the last. Equal if it only holds the ends. */
    layers: [number, number],
    /** What this stage adds to a token; null if not measured. */
    ms_per_token: number | null,
};
