/** A model: the hash of its file. Opaque to the screen. */
export type ModelId = string;
