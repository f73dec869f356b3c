import type { ModelId } from "./ModelId";

export type ImportResult = { kind: "imported", model: ModelId } | { kind: "cancelled" };
