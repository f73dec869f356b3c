export type ConversationId = string;
