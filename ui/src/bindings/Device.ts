import type { Heat } from "./Heat";

/** How this phone is doing. */
export type Device = {
    free_memory_bytes: number,
    /** What the app may use of it. */
    memory_budget_bytes: number,
    total_memory_bytes: number,
    /** 0 to 1; null where there is no battery. */
    battery: number | null,
    charging: boolean,
    heat: Heat,
    power_save: boolean,
    metered: boolean,
};
