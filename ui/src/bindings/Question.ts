import type { ConversationId } from "./ConversationId";
import type { QuestionWhat } from "./QuestionWhat";

export type Question = { conversation: ConversationId, what: QuestionWhat };
