import { VmRestoreError } from "../base/errors.ts";

/**
 * Why a relocation ended without being done. Whatever passes by itself (agent restarting, repository away) is waited
 * for instead and never ends in one of these.
 */
export type RelocationErrorCode =
  /** The target cannot hold the disk, or is nothing that can hold one. */
  | "RELOCATION_TARGET_UNFIT"
  /** Writing, reading or syncing the target failed. */
  | "RELOCATION_TARGET_FAILED"
  /** The agent has no such disk, or another size than it serves. */
  | "RELOCATION_DISK_UNKNOWN"
  /** The agent refused a request for good. */
  | "RELOCATION_REFUSED"
  /** What a claim holds of a machine's TPM and firmware is more than any machine has. */
  | "RELOCATION_STATE_TOO_LARGE"
  /** Target and merged image differ. */
  | "RELOCATION_VERIFY_FAILED";

export class RelocationError extends VmRestoreError {
  declare readonly code: RelocationErrorCode;

  constructor(code: RelocationErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, message, options);
  }
}
