import type { PhoneId } from "./PhoneId";

/** Tokens that went round the ring since the last one. */
export type Beat = { tokens: number, lap_ms: number, asker: PhoneId };
