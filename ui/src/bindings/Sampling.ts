export type Sampling = {
    /** 0 takes the likeliest token always. */
    temperature: number,
    top_k: number,
    top_p: number,
    min_p: number,
    repetition_penalty: number,
    /** Null draws a new one for each answer. */
    seed: number | null,
    max_tokens: number,
};
