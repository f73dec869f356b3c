export type QuestionStage = { kind: "waiting", ahead: number } | { kind: "reading", done: number, total: number } | { kind: "writing", tokens: number };
