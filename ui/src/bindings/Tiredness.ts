export type Tiredness = "low_battery" | "hot" | "not_charging" | "metered";
