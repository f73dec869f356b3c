export type Storage = {
    /** Models and shards of this phone. */
    models_bytes: number,
    /** Neighbours' shards, kept so that a boundary moves without transfer. */
    shards_bytes: number,
    conversations_bytes: number,
    free_bytes: number,
    /** What the app may use for models and shards. */
    quota_bytes: number,
};
