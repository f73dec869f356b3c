import type { ConversationId } from "./ConversationId";

export type ConversationSummary = { id: ConversationId, title: string, preview: string, changed_unix_ms: number, n_messages: number, answering: boolean };
