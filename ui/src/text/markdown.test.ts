// @vitest-environment jsdom
import { describe, expect, test } from "vitest";

import { HOSTILE } from "../backend/demo/words";
import { MARKDOWN_CHARS_MAX, plain, render } from "./markdown";

const html = (text: string) => render(text).map((block) => (block.kind === "code" ? "" : block.html)).join("\n");

/** The page as it would be, to look for what must not be in it. */
function page(text: string): HTMLElement {
    const root = document.createElement("div");
    root.innerHTML = html(text);
    return root;
}

describe("what a model writes", () => {
    test("becomes Markdown", () => {
        expect(html("**bold** and `code`")).toBe("<p><strong>bold</strong> and <code>code</code></p>\n");
        expect(page("- one\n- two").querySelectorAll("li")).toHaveLength(2);
        expect(page("| a | b |\n| - | - |\n| 1 | 2 |").querySelectorAll("td")).toHaveLength(2);
    });

    test("has headings below those of the page", () => {
        expect(html("# Title")).toContain("<h3>Title</h3>");
    });

    test("has code blocks of their own, finished or not", () => {
        expect(render("```python\nprint(1)\n```\nafter")).toEqual([
            { kind: "code", language: "python", text: "print(1)" },
            { kind: "html", html: "<p>after</p>\n" },
        ]);
        expect(render("```rust\nfn ma")).toEqual([{ kind: "code", language: "rust", text: "fn ma" }]);
    });

    test.each(["```<script>\nx\n```", "```\"onload=alert(1)\nx\n```", "```a/../b\nx\n```"])("cannot name a language with %j", (text) => {
        const [block] = render(text);

        expect(block?.kind === "code" && block.language).toMatch(/^[\w+#.-]*$/);
    });

    test("grows a word at a time without other blocks changing", () => {
        const before = render("first\n\nsecond");
        const after = render("first\n\nsecond word");

        expect(after[0]).toEqual(before[0]);
    });
});

describe("hostile text", () => {
    test.each([
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>",
        "<iframe src=https://evil.example></iframe>",
        "<style>*{display:none}</style>",
        "<div style='position:fixed' onclick=alert(1)>x</div>",
        "<a href='javascript:alert(1)'>x</a>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](vbscript:alert(1))",
        "[x](file:///etc/passwd)",
        "![x](https://evil.example/pixel.png)",
        "![x](javascript:alert(1))",
        "<https://ok.example\"onmouseover=alert(1)>",
        "[x](https://ok.example \"t\" onclick=alert(1))",
        "<form action=https://evil.example><input name=a><button>go</button></form>",
        "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
        "<b><b><b>".repeat(1000),
        HOSTILE,
    ])("%j only ever shows", (text) => {
        const root = page(text);

        expect(root.querySelector("script, img, svg, iframe, style, form, input, button, math, object, link, meta, base")).toBeNull();
        for (const element of root.querySelectorAll("*")) {
            for (const { name, value } of element.attributes) {
                expect(["href", "start"]).toContain(name);
                if (name === "href") expect(value).toMatch(/^(https?|mailto):/i);
            }
        }
    });

    test("shows its tags, so that one sees what was written", () => {
        expect(page("<script>alert(1)</script>").textContent).toContain("<script>alert(1)</script>");
    });

    test("links to nothing that is relative", () => {
        expect(page("[x](/settings) [y](#z) [z](//evil.example)").querySelector("[href]")).toBeNull();
    });

    test("is not fetched: a picture becomes its description", () => {
        expect(page("![a cat](https://evil.example/cat.png)").textContent).toBe("a cat\n");
    });

    test("cannot turn the direction of what follows", () => {
        expect(html("a\u202Eb\u202Dc")).toBe("<p>abc</p>\n");
    });

    test("longer than is rendered is still shown whole", () => {
        const text = "w".repeat(MARKDOWN_CHARS_MAX) + "<b>end</b>";

        expect(page(text).textContent).toContain("<b>end</b>");
    });

    test.each([
        ["brackets", "[".repeat(20_000)],
        ["emphasis", "*a ".repeat(20_000)],
        ["quotes", ">".repeat(2_000) + "x"],
        ["backticks", "`a".repeat(20_000)],
        ["links", "[a](".repeat(10_000)],
        ["tables", "|".repeat(20_000) + "\n" + "|-".repeat(10_000)],
    ])("of many %s does not hang the page", (_, text) => {
        const before = process.cpuUsage();

        render(text);

        // Seconds would be felt; a quadratic parser takes minutes. Whatever else the machine does is not counted.
        expect(process.cpuUsage(before).user / 1000).toBeLessThan(30_000);
    }, 120_000);
});

test("a preview is the words on one line", () => {
    expect(plain("# Title\n\n- **a** [b](https://c.example)\n```py\nx\n```", 100)).toBe("Title a b x");
    expect(plain("w".repeat(1000), 10)).toBe("wwwwwwwwww");
});
