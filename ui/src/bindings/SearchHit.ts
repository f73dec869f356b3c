import type { ConversationId } from "./ConversationId";
import type { MessageId } from "./MessageId";

export type SearchHit = {
    conversation: ConversationId,
    title: string,
    message: MessageId,
    /** Text around the hit. */
    before: string, found: string, after: string,
};
