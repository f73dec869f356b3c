/** Colours for code, fetched when the first code block is seen. */
import type { HLJSApi, LanguageFn } from "highlight.js";

/** Characters that are coloured; longer code is shown plain, because colouring takes 1 ms for about 2,000. A guess. */
const HIGHLIGHT_CHARS_MAX = 20_000;

type Grammar = () => Promise<{ default: LanguageFn }>;

const GRAMMARS: Record<string, Grammar> = {
    bash: () => import("highlight.js/lib/languages/bash"),
    c: () => import("highlight.js/lib/languages/c"),
    cpp: () => import("highlight.js/lib/languages/cpp"),
    css: () => import("highlight.js/lib/languages/css"),
    go: () => import("highlight.js/lib/languages/go"),
    java: () => import("highlight.js/lib/languages/java"),
    javascript: () => import("highlight.js/lib/languages/javascript"),
    json: () => import("highlight.js/lib/languages/json"),
    kotlin: () => import("highlight.js/lib/languages/kotlin"),
    python: () => import("highlight.js/lib/languages/python"),
    rust: () => import("highlight.js/lib/languages/rust"),
    sql: () => import("highlight.js/lib/languages/sql"),
    swift: () => import("highlight.js/lib/languages/swift"),
    typescript: () => import("highlight.js/lib/languages/typescript"),
    xml: () => import("highlight.js/lib/languages/xml"),
};

const ALIASES: Record<string, string> = {
    sh: "bash", shell: "bash", zsh: "bash", "c++": "cpp", js: "javascript", jsx: "javascript", kt: "kotlin",
    py: "python", python3: "python", rs: "rust", ts: "typescript", tsx: "typescript", html: "xml", svg: "xml",
};

let core: Promise<HLJSApi> | undefined;

/** Returns HTML made of `<span class="hljs-…">` and escaped text, or `null` where there is nothing to colour. */
export async function highlight(text: string, language: string): Promise<string | null> {
    const name = ALIASES[language] ?? language;
    const grammar = Object.hasOwn(GRAMMARS, name) ? GRAMMARS[name] : undefined;
    if (grammar === undefined || text.length > HIGHLIGHT_CHARS_MAX) return null;
    core ??= import("highlight.js/lib/core").then((module) => module.default);
    const hljs = await core;
    if (hljs.getLanguage(name) === undefined) hljs.registerLanguage(name, (await grammar()).default);
    return hljs.highlight(text, { language: name, ignoreIllegals: true }).value;
}
