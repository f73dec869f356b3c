import type { PhoneId } from "./PhoneId";
import type { PreparationStep } from "./PreparationStep";
import type { ShardSource } from "./ShardSource";

export type PhonePreparation = {
    phone: PhoneId,
    step: PreparationStep,
    done_bytes: number,
    total_bytes: number,
    rate_bytes_s: number,
    /** Null while not known. */
    left_s: number | null,
    source: ShardSource,
};
