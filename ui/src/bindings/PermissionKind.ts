export type PermissionKind = "local_network" | "camera" | "notifications";
