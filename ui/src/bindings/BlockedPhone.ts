import type { PhoneId } from "./PhoneId";

export type BlockedPhone = { id: PhoneId, name: string };
