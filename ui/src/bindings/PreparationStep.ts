export type PreparationStep = "waiting" | "fetching" | "checking" | "loading" | "ready";
