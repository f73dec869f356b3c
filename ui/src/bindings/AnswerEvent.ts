import type { Message } from "./Message";
import type { MessageId } from "./MessageId";

/**
 * How an answer goes on. `begun` is the first: messages from `dropped_from` on are gone, and those in `added` (the
 * question, unless it is asked again, and the empty answer) are new. `end` is the last, and always comes.
 */
export type AnswerEvent =
    | { kind: "begun", dropped_from: MessageId | null, added: Array<Message> }
    | { kind: "queued", ahead: number }
    | { kind: "reading", done: number, total: number }
    /** Text that is certain since the last one; sent every 30 to 50 ms, not for each token. */
    | { kind: "text", text: string }
    | { kind: "notice", message: Message }
    | { kind: "end", message: Message };
