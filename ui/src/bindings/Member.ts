import type { Heat } from "./Heat";
import type { PhoneId } from "./PhoneId";
import type { Presence } from "./Presence";
import type { Tiredness } from "./Tiredness";

export type Member = {
    id: PhoneId,
    name: string,
    presence: Presence,
    /** Left out of computing, because a person said so. */
    excluded: boolean,
    /** Why it had better rest, if so. */
    tired: Tiredness | null,
    free_memory_bytes: number,
    total_memory_bytes: number,
    /** Layers of the model in force that it computes a second, decoding; null if not measured. */
    layers_per_s: number | null,
    /** 0 to 1; null where there is no battery. */
    battery: number | null,
    charging: boolean,
    heat: Heat,
    /** Round trip from this phone; null to itself, or if not measured. */
    rtt_ms: number | null,
    /** Its share of the work: layers times tokens, since it joined. */
    layers_computed: number,
};
