export type RebalanceReason = "slow" | "hot" | "low_battery" | "newcomer" | "left_out";
