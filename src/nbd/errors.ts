import { VmRestoreError } from "../base/errors.ts";

export type NbdErrorCode = "NBD_PROTOCOL" | "NBD_REFUSED" | "NBD_DISCONNECTED" | "NBD_TIMEOUT" | "NBD_IO";

/** What went wrong with the peer. */
export class NbdError extends VmRestoreError {
  declare readonly code: NbdErrorCode;

  constructor(code: NbdErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, message, options);
  }
}
