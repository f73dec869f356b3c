/** A conversation as a file: Markdown for people, JSON for programs. */
import type { Conversation } from "../bindings/Conversation";
import type { Message } from "../bindings/Message";
import { m } from "../paraglide/messages.js";
import { notice } from "./sentences";
import { cleanName, cleanProse } from "./plain";

export function asMarkdown(conversation: Conversation): string {
    const parts = [`# ${cleanName(conversation.title, 120)}`];
    if (conversation.system_prompt.trim() !== "") parts.push(quote(conversation.system_prompt));
    for (const message of conversation.messages) parts.push(messageAsMarkdown(message));
    return parts.join("\n\n") + "\n";
}

/** The conversation as it is kept. Times are milliseconds since 1970. */
export function asJson(conversation: Conversation): string {
    return JSON.stringify({ format: "lingualinked-conversation", version: 1, ...conversation }, null, 2) + "\n";
}

function messageAsMarkdown({ body }: Message): string {
    switch (body.kind) {
        case "question":
            return `## ${cleanName(body.asker) || m.unnamed_phone()}\n\n${cleanProse(body.text)}`;
        case "answer":
            return `## ${cleanName(body.figures?.model_name ?? "") || m.chat_answer()}\n\n${cleanProse(body.text)}`;
        case "notice":
            return `*${notice(body.what)}*`;
    }
}

function quote(text: string): string {
    return cleanProse(text).split("\n").map((line) => `> ${line}`).join("\n");
}
