/**
 * Text from outside, made safe to show as plain text.
 *
 * Names and file names come from strangers' phones, answers from a model. Svelte escapes what it puts into a page, so
 * nothing here is about markup: it is about text that misleads or breaks a layout. Overrides of direction make `txt.exe`
 * look like `exe.txt`, a hundred accents on one letter climb over the lines above, a name of a megabyte hangs the page.
 */

/** Letters of a name that are shown; a phone's own name is limited to as many. A guess: longer ones wrap twice. */
export const NAME_LETTERS_MAX = 32;

/** Code units of a name that are looked at: a letter with three accents, or a family emoji, takes up to 11. */
const NAME_UNITS_MAX = NAME_LETTERS_MAX * 11;

/** Direction marks, embeddings, overrides and isolates. */
const DIRECTION = /[\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/g;

/** Only what changes the direction of *other* text: marks and isolates have honest uses in right-to-left prose. */
const OVERRIDES = /[\u202A-\u202E]/g;

/** Controls but for tab and line feed, and lone halves of surrogate pairs. */
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F\uFFF9-\uFFFB]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g;

/** What takes no room, but for the joiner of emoji and of some scripts. */
const INVISIBLE = /[\u00AD\u115F\u1160\u180E\u200B\u200C\u2060-\u2064\u3164\uFEFF\uFFA0\u{E0000}-\u{E007F}]/gu;

/** More accents on one letter than any writing has: a name's fourth, the seventh in prose, where some scripts stack. */
const NAME_ACCENTS = /(\p{M}{3})\p{M}+/gu;
const PROSE_ACCENTS = /(\p{M}{6})\p{M}+/gu;

const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** A name as one short line, or `""` if nothing in it can be seen. */
export function cleanName(name: string, lettersMax = NAME_LETTERS_MAX): string {
    const visible = name
        .slice(0, NAME_UNITS_MAX)
        .replace(/\s+/g, " ")
        .replace(CONTROLS, "")
        .replace(DIRECTION, "")
        .replace(INVISIBLE, "")
        .normalize("NFC")
        .replace(NAME_ACCENTS, "$1")
        .trim();
    return truncate(visible, lettersMax);
}

/** The first letters, and an ellipsis in place of the rest. */
export function truncate(text: string, lettersMax: number): string {
    const kept: string[] = [];
    for (const { segment } of letters.segment(text)) {
        if (kept.length === lettersMax) return kept.slice(0, -1).join("").trimEnd() + "…";
        kept.push(segment);
    }
    return text;
}

/** Prose from outside: line breaks and tabs stay. */
export function cleanProse(text: string): string {
    return text.replace(/\r\n?/g, "\n").replace(CONTROLS, "").replace(OVERRIDES, "").replace(PROSE_ACCENTS, "$1");
}

/** Keeps a name's direction from reaching the sentence around it; for places where no `<bdi>` can stand. */
export function isolate(text: string): string {
    return `\u2068${text}\u2069`;
}

/** What stands for a phone where there is room for one letter. */
export function initial(name: string): string {
    for (const { segment } of letters.segment(cleanName(name))) return segment.toLocaleUpperCase();
    return "?";
}

/** A file name that every system takes. */
export function fileName(title: string, ending: string): string {
    const stem = cleanName(title, 48)
        .replace(/[\\/:*?"<>|.…]+/g, " ")
        .replace(/\s+/g, "-")
        .replace(/^-|-$/g, "");
    return `${stem === "" ? "chat" : stem}.${ending}`;
}
