import { VmRestoreError } from "../../base/errors.ts";

/** QEMU could not be started, reached, or told what to do. */
export class HypervisorError extends VmRestoreError {
  constructor(code: string, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, message, options);
  }
}
