import { VmRestoreError } from "../base/errors.ts";

/** What the media agent and the inspection refuse by themselves; layers below have codes of their own. */
export type AgentErrorCode =
  | "CONFIG_INVALID"
  | "CACHE_TOO_SMALL"
  | "DISK_SIZE_MISMATCH"
  | "DISK_SIZE_UNALIGNED"
  | "DISKS_AMBIGUOUS"
  | "DISKS_NOT_FOUND"
  | "INSPECTION_TOO_LARGE"
  | "MANIFEST_INVALID"
  | "OBJECTS_INVALID"
  | "PROFILE_INVALID"
  | "STATE_MISMATCH"
  | "STATE_TOO_LARGE"
  | "STALE_EPOCH"
  | "NOT_SERVING"
  | "NOT_IN_TIME"
  | "NOT_FOUND"
  | "FORBIDDEN"
  | "REQUEST_INVALID"
  | "REQUEST_TOO_LARGE"
  | "DISK_NOT_SEALED";

export class AgentError extends VmRestoreError {
  declare readonly code: AgentErrorCode;

  constructor(code: AgentErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, message, options);
  }
}
