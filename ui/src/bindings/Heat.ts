export type Heat = "cool" | "warm" | "hot";
