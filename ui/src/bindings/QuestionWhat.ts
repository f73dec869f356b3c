import type { MessageId } from "./MessageId";

export type QuestionWhat =
    | { kind: "new", text: string }
    /** Replaces a question, and drops what followed. */
    | { kind: "edit", message: MessageId, text: string }
    /** Answers the last question again. */
    | { kind: "again" };
