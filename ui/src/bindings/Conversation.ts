import type { ConversationId } from "./ConversationId";
import type { Message } from "./Message";
import type { Sampling } from "./Sampling";

export type Conversation = {
    id: ConversationId,
    title: string,
    system_prompt: string,
    sampling: Sampling,
    /** Oldest first. */
    messages: Array<Message>,
};
