import type { PhoneId } from "./PhoneId";

/** From where a phone gets its shards. */
export type ShardSource = { kind: "own_storage" } | { kind: "phone", phone: PhoneId } | { kind: "internet" };
