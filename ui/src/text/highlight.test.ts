// @vitest-environment jsdom
import { expect, test } from "vitest";

import { highlight } from "./highlight";

test.each([
    ["python", "x = 1"], ["py", "x = 1"], ["rust", "let x = 1;"], ["ts", "const x = 1"], ["json", "[1]"], ["c++", "int x = 1;"], ["html", "<p>x</p>"],
])("%s is coloured", async (language, text) => {
    expect(await highlight(text, language)).toContain("hljs-");
});

test.each(["", "cobol", "constructor", "__proto__"])("%j is not known, and shown plain", async (language) => {
    expect(await highlight("x", language)).toBeNull();
});

test.each(["python", "xml", "javascript", "bash"])("markup in %s is escaped", async (language) => {
    const html = await highlight(`<script>alert(1)</script> "<img src=x onerror=alert(1)>"`, language);
    const root = document.createElement("div");
    root.innerHTML = html ?? "";

    expect([...root.querySelectorAll("*")].every((element) => element.tagName === "SPAN")).toBe(true);
    expect(root.textContent).toBe(`<script>alert(1)</script> "<img src=x onerror=alert(1)>"`);
});

test("very long code is left plain", async () => {
    expect(await highlight("x = 1\n".repeat(10_000), "python")).toBeNull();
});
