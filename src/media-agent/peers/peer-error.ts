import { VmRestoreError } from "../../base/errors.ts";

/**
 * Why another agent gave no blob. LACKS: it is of none of its disks. NOT_NOW: it would have to fetch it. REFUSED: it does not answer
 * anybody, or not this agent, or has enough to do. SILENT: it did not answer in time. WRONG: what it gave is not what was asked for.
 */
export type PeerErrorCode = "PEER_LACKS" | "PEER_NOT_NOW" | "PEER_REFUSED" | "PEER_SILENT" | "PEER_WRONG";

export class PeerError extends VmRestoreError {
  declare readonly code: PeerErrorCode;

  constructor(code: PeerErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, message, options);
  }
}
