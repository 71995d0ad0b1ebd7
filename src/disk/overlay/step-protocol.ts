/*
 * What the event loop and the thread of `step-thread.ts` share: one request at a time, in memory that both see. No message is
 * copied or queued: each side wakes the other by a word (futex).
 */

/** Words of the control block. */
export const WORD = {
  /** Number of the request; the thread waits for it to change. */
  request: 0,
  /** Number of the request that is done; the event loop waits for it to change. */
  done: 1,
  /** How many steps the request has. */
  steps: 2,
  /** Which of them failed, counted from 1; 0 where none did. */
  failed: 3,
  /** Bytes of the failure, JSON, that lie where the steps' bytes were. */
  failureBytes: 4,
  /** 1 once the thread takes requests. */
  ready: 5,
} as const;
export const WORDS = 6;

/** Numbers that describe a step. */
export const FIELD = { kind: 0, descriptor: 1, offset: 2, length: 3 } as const;
export const FIELDS = 4;
export const KIND = { write: 0, datasync: 1 } as const;

/** A write, its sync, the journal's and that one's: nobody needs more. */
export const MOST_STEPS = 4;
/** Of all writes of a request together. */
export const MOST_BYTES = 128 * 1024;

/** Memory that both sides see; the bytes of writes lie one after the other. */
export interface SharedSteps {
  readonly control: Int32Array<SharedArrayBuffer>;
  readonly fields: Float64Array<SharedArrayBuffer>;
  readonly bytes: Uint8Array<SharedArrayBuffer>;
}

export function sharedSteps(): SharedSteps {
  return {
    control: new Int32Array(new SharedArrayBuffer(WORDS * 4)),
    fields: new Float64Array(new SharedArrayBuffer(MOST_STEPS * FIELDS * 8)),
    bytes: new Uint8Array(new SharedArrayBuffer(MOST_BYTES)),
  };
}

export interface StepFailure {
  readonly code: string | undefined;
  readonly message: string;
}
