import { readFileSync } from "node:fs";
import { TurnBudget } from "../../base/turn-budget.ts";

/** A read from the page cache takes microseconds; one that takes longer went to the device, or lost the processor. Milliseconds. */
const SLOW_MS = 3;
/** How long nothing is believed after that. Milliseconds. */
const PAUSE_MS = 2_000;
/** How often the kernel is asked before a read, too, what came from devices. Milliseconds. */
const ASK_EVERY_MS = 1_000;

/** Which pieces of one file are believed to lie in the page cache. */
export interface ResidentPieces {
  bits: Uint8Array;
  /** What was noted before {@link Residency} forgot everything does not count. */
  era: number;
}

/**
 * Remembers what this process wrote or read last, and so lies in the kernel's page cache: it can be read at once, on the event loop,
 * where a thread of the pool would take ten times as long. It is a belief: the first read that turns out slow ends it for
 * everything, and for two seconds nothing new is believed. So the event loop waits for the device once in two seconds
 * at most (docs/decisions/0020-cached-bytes-are-read-at-once.md).
 */
export class Residency {
  readonly #now: () => number;
  readonly #fromDevice: () => number | undefined;
  #fromDeviceSoFar: number | undefined;
  #askedAt: number;
  #era = 1;
  #believesFrom = 0;
  /** Of short reads and of long ones: a copy's long reads do not take the turn of a guest's short ones. */
  readonly short = new TurnBudget();
  readonly long = new TurnBudget();

  /**
   * @param now milliseconds, monotonic
   * @param fromDevice bytes that this thread has read from devices so far; undefined where nobody can say
   */
  constructor(now: () => number, fromDevice: () => number | undefined) {
    this.#now = now;
    this.#fromDevice = fromDevice;
    this.#fromDeviceSoFar = fromDevice();
    this.#askedAt = now();
  }

  /** For a file of so many pieces, of which none is noted. */
  none(pieces: number): ResidentPieces {
    return { bits: new Uint8Array(Math.ceil(pieces / 8)), era: 0 };
  }

  /** Whether all are believed to be there. */
  has(pieces: ResidentPieces, first: number, count: number): boolean {
    if (pieces.era !== this.#era) return false;
    for (let index = first; index < first + count; index++) {
      if (((pieces.bits[index >>> 3] ?? 0) & (1 << (index & 7))) === 0) return false;
    }
    return true;
  }

  /** They were written or read just now. */
  note(pieces: ResidentPieces, first: number, count: number): void {
    if (this.#now() < this.#believesFrom) return;
    if (pieces.era !== this.#era) {
      pieces.bits.fill(0);
      pieces.era = this.#era;
    }
    for (let index = first; index < first + count; index++) {
      pieces.bits[index >>> 3] = (pieces.bits[index >>> 3] ?? 0) | (1 << (index & 7));
    }
  }

  /** Runs a read that is believed to need no device, and looks at the time it takes. */
  watch<T>(read: () => T): T {
    const begun = this.#now();
    // What this thread read for another reason, long ago, says nothing of the next slow read.
    if (begun - this.#askedAt > ASK_EVERY_MS) {
      this.#fromDeviceSoFar = this.#fromDevice();
      this.#askedAt = begun;
    }
    try {
      return read();
    } finally {
      const ended = this.#now();
      if (ended - begun > SLOW_MS && this.#wasDevice()) {
        this.#era++;
        this.#believesFrom = ended + PAUSE_MS;
      }
    }
  }

  #wasDevice(): boolean {
    const before = this.#fromDeviceSoFar;
    this.#fromDeviceSoFar = this.#fromDevice();
    return before === undefined || before !== this.#fromDeviceSoFar;
  }
}

/** What the kernel has counted for the calling thread (proc_pid_io(5)). */
export function readFromDevice(): number | undefined {
  try {
    const found = /^read_bytes: (\d+)$/m.exec(readFileSync("/proc/thread-self/io", "latin1"));
    return found === null ? undefined : Number(found[1]);
  } catch {
    return undefined;
  }
}
