import type { Fit } from "./Fit";
import type { ModelAvailability } from "./ModelAvailability";
import type { ModelId } from "./ModelId";

export type Model = {
    id: ModelId,
    name: string,
    /** Who made it, e.g. `Hugging Face`. */
    maker: string,
    /** e.g. `llama`. */
    architecture: string,
    /** e.g. `Q4_0`. */
    quantisation: string,
    /** e.g. `Apache-2.0`; empty if not known. */
    licence: string,
    parameters: number,
    n_layers: number,
    /** Longest conversation it was made for. */
    context_tokens: number,
    file_bytes: number,
    /** Memory to run it whole with the planned context. */
    needed_bytes: number,
    /** Two-letter codes. */
    languages: Array<string>,
    imported: boolean,
    availability: ModelAvailability,
    fits_here: Fit,
    /** Null without a group. */
    fits_group: Fit | null,
};
