import type { MessageBody } from "./MessageBody";
import type { MessageId } from "./MessageId";

export type Message = {
    id: MessageId,
    at_unix_ms: number,
    body: MessageBody,
};
