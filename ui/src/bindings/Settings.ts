export type Settings = {
    /** What the app may use; null leaves it to the phone. */
    memory_limit_bytes: number | null,
    /** Stop computing for others below this; 0 to 1. */
    battery_floor: number,
    only_while_charging: boolean,
    use_metered: boolean,
    storage_quota_bytes: number,
    keep_screen_on: boolean,
    /** Whether other phones see this one nearby. */
    visible: boolean,
};
