/** What an answer cost. */
export type Figures = {
    model_name: string,
    /** Time to the first word. */
    ttft_s: number,
    tokens_per_s: number,
    prompt_tokens: number,
    /** Of these, found in the cache. */
    cached_tokens: number,
    completion_tokens: number,
    context_tokens: number,
    /** Names of the phones that computed, in ring order. */
    phones: Array<string>,
    /** What the whole ring sent for one token. */
    bytes_per_token: number,
};
