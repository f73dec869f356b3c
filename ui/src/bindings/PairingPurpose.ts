/** Whose group it shall be: that of the phone that is asked, or that of the one that asks. */
export type PairingPurpose = "join" | "invite";
