export type Diagnostics = { text: string };
