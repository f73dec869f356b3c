export type VersionMatch = "same" | "theirs_older" | "ours_older";
