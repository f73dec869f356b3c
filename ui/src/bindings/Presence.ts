export type Presence = "here" | "suspect" | "lost";
