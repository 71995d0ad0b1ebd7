import { VmRestoreError } from "../base/errors.ts";

/** What can go wrong with a virtual disk; see each code's use for what the caller does next. */
export type DiskErrorCode =
  | "OUT_OF_RANGE"
  | "DISK_SEALED"
  | "WRITER_FENCED"
  | "DISK_CLOSED"
  | "OVERLAY_FULL"
  | "OVERLAY_CORRUPT"
  | "OVERLAY_VERSION"
  | "OVERLAY_LOCKED"
  | "OVERLAY_MISMATCH"
  | "STALE_EPOCH"
  | "STALE_GENERATION"
  | "OVERLAY_FAILED"
  | "CACHE_UNUSABLE"
  | "IMAGE_CORRUPT"
  | "IMAGE_UNSUPPORTED"
  | "IMAGE_AMBIGUOUS"
  | "IMAGE_FILE_MISSING"
  | "IMAGE_MISMATCH";

export class DiskError extends VmRestoreError {
  declare readonly code: DiskErrorCode;

  constructor(code: DiskErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, message, options);
  }
}
