import type { MessageId } from "./MessageId";
import type { PhoneId } from "./PhoneId";
import type { QuestionStage } from "./QuestionStage";

export type QueuedQuestion = {
    /** The answer's message id on the phone that asked. */
    answer: MessageId,
    asker: PhoneId,
    stage: QuestionStage,
};
