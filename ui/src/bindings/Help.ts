import type { PhoneId } from "./PhoneId";

export type Help =
    | { kind: "free_memory", phone: PhoneId, bytes: number }
    | { kind: "another_phone", bytes: number }
    | { kind: "bring_back", phone: PhoneId }
    | { kind: "shorter_context", tokens: number }
    | { kind: "smaller_model", bytes: number };
