import { expect, test } from "vitest";

import type { Conversation } from "../bindings/Conversation";
import { SAMPLING } from "../backend/demo/seeds";
import { asJson, asMarkdown } from "./export";

const conversation: Conversation = {
    id: "c", title: "Sky\u202E\n", system_prompt: "Be brief.\nBe kind.", sampling: SAMPLING,
    messages: [
        { id: "1", at_unix_ms: 1, body: { kind: "question", text: "Why?", asker: "Mira" } },
        { id: "2", at_unix_ms: 2, body: { kind: "notice", what: { kind: "phone_left", name: "Sam", phones: 2 } } },
        { id: "3", at_unix_ms: 3, body: { kind: "answer", text: "**Because**", outcome: { kind: "complete" }, figures: null } },
    ],
};

test("Markdown reads as it was said", () => {
    expect(asMarkdown(conversation)).toBe(
        "# Sky\n\n> Be brief.\n> Be kind.\n\n## Mira\n\nWhy?\n\n*\u2068Sam\u2069 left. Continuing on 2 phones.*\n\n## Answer\n\n**Because**\n",
    );
});

test("JSON keeps everything, and says what it is", () => {
    expect(JSON.parse(asJson(conversation))).toEqual({ format: "lingualinked-conversation", version: 1, ...conversation });
});
