export type LeaveWhen = "after_answer" | "now";
