import type { AnswerOutcome } from "./AnswerOutcome";
import type { Figures } from "./Figures";
import type { Notice } from "./Notice";

export type MessageBody =
    | { kind: "question", text: string, asker: string }
    | { kind: "answer", text: string, outcome: AnswerOutcome, figures: Figures | null }
    /** Something that happened to the group meanwhile. */
    | { kind: "notice", what: Notice };
