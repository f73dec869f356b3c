export type Speed = {
    /** Time to the first word, of the planned prompt. */
    ttft_s: number,
    tokens_per_s: number,
};
