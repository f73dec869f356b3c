export type Fit = { kind: "fits" } | { kind: "tight" } | { kind: "too_big", missing_bytes: number } | { kind: "unsupported", architecture: string };
