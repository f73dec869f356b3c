/** `denied` can only be changed in the system's settings. */
export type PermissionStatus = "not_needed" | "not_asked" | "granted" | "denied";
