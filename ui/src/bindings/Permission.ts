import type { PermissionKind } from "./PermissionKind";
import type { PermissionStatus } from "./PermissionStatus";

export type Permission = { kind: PermissionKind, status: PermissionStatus };
