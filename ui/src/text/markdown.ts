/**
 * A model's Markdown, as blocks that can be shown.
 *
 * What a model writes is as hostile as what a stranger writes: it repeats what it read. Three walls, each enough alone:
 * raw HTML in Markdown is shown as text, never as markup; what comes out is put through DOMPurify with a short list of
 * tags; and the page's CSP runs no inline script. Nothing in an answer is ever fetched: images become their description.
 *
 * A long answer is parsed anew with every few words. Blocks that did not change keep their HTML (it is looked up by their
 * source), so only the last one is rendered again, and Svelte touches only that one in the page.
 */
import DOMPurify, { type Config } from "dompurify";
import { Marked, type Tokens } from "marked";

import { cleanProse } from "./plain";

export type Block = { kind: "html" | "table"; html: string } | { kind: "code"; language: string; text: string };

/** Characters of one message that are rendered as Markdown; the rest is shown as it is. 40 pages; a guess. */
export const MARKDOWN_CHARS_MAX = 100_000;

/** Blocks whose HTML is remembered: several answers' worth. */
const REMEMBERED_MAX = 400;

/** Headings of an answer stand below those of the page. */
const HEADING_DEPTH = 2;

const CLEAN: Config = {
    ALLOWED_TAGS: [
        ..."p br strong em del ul ol li blockquote h3 h4 h5 h6 hr a code pre".split(" "),
        ..."table thead tbody tr th td sub sup".split(" "),
    ],
    ALLOWED_ATTR: ["href", "start"],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    KEEP_CONTENT: true,
};

const marked = new Marked({
    gfm: true,
    breaks: true,
    async: false,
    renderer: {
        html: ({ text }: Tokens.HTML | Tokens.Tag) => escape(text),
        image: ({ text, href }: Tokens.Image) => escape(text === "" ? href : text),
        checkbox: ({ checked }: Tokens.Checkbox) => (checked ? "☑ " : "☐ "),
        heading({ tokens, depth }: Tokens.Heading) {
            const level = Math.min(depth + HEADING_DEPTH, 6);
            return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
        },
    },
});

const remembered = new Map<string, string>();

/** Returns the blocks of a text in order. An unfinished code block is one already. */
export function render(text: string): Block[] {
    const source = cleanProse(text);
    try {
        const blocks = parsed(source.slice(0, MARKDOWN_CHARS_MAX));
        const rest = source.slice(MARKDOWN_CHARS_MAX);
        return rest === "" ? blocks : [...blocks, asItIs(rest)];
    } catch {
        // Marked recurses into quotes and lists: a thousand inside each other are deeper than the stack.
        return [asItIs(source)];
    }
}

function parsed(source: string): Block[] {
    const blocks: Block[] = [];
    for (const token of marked.lexer(source)) {
        if (token.type === "space") continue;
        if (token.type === "code") {
            const { lang, text } = token as Tokens.Code;
            blocks.push({ kind: "code", language: languageOf(lang), text });
        } else {
            blocks.push({ kind: token.type === "table" ? "table" : "html", html: htmlOf(token.raw) });
        }
    }
    return blocks;
}

function asItIs(text: string): Block {
    return { kind: "html", html: `<p>${escape(text)}</p>` };
}

/** The words without their marks, on one line: for previews and screen readers. */
export function plain(text: string, charsMax: number): string {
    return cleanProse(text)
        .slice(0, charsMax * 4)
        .replace(/```[^\n]*\n?/g, " ")
        .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
        .replace(/^\s*(?:#{1,6}|>|[-*+]|\d+\.)\s+/gm, "")
        .replace(/[*_`~|]+/g, "")
        .replace(/\s+/g, " ")
        .trim()
        .slice(0, charsMax);
}

function htmlOf(raw: string): string {
    const known = remembered.get(raw);
    if (known !== undefined) return known;
    const html = DOMPurify.sanitize(marked.parse(raw) as string, CLEAN);
    if (remembered.size >= REMEMBERED_MAX) remembered.delete(remembered.keys().next().value ?? "");
    remembered.set(raw, html);
    return html;
}

/** The first word after the fence, if it can be the name of a language. */
function languageOf(info: string | undefined): string {
    return /^[\w+#.-]{1,20}/.exec(info ?? "")?.[0].toLowerCase() ?? "";
}

function escape(text: string): string {
    return text
        .replaceAll("&", "&amp;")
        .replaceAll("<", "&lt;")
        .replaceAll(">", "&gt;")
        .replaceAll('"', "&quot;")
        .replaceAll("'", "&#39;");
}
