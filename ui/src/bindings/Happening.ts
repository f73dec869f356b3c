import type { Notice } from "./Notice";

export type Happening = { at_unix_ms: number, what: Notice };
