import { crc32 } from "node:zlib";
import { type CallIdentity, DoneCalls } from "./done-calls.ts";
import { ACCEPTED_HEAD_BYTES } from "./rpc.ts";

/** One call that must not be carried out twice. */
export interface SingleCall {
  /** {@link clientNumber} of the address that it came from. */
  readonly client: number;
  readonly xid: number;
  /** The whole call. */
  readonly record: Buffer;
  /** Carries it out, and gives its reply; at once where it is refused and nothing was done. */
  readonly carryOut: () => Buffer[] | Promise<Buffer[]>;
  /** The reply to a call that ended with this status; its arguments have not been read. */
  readonly repeat: (status: number) => Buffer[];
}

/**
 * Keeps calls from being carried out twice. A client that waits too long sends the same call again, perhaps over a new
 * connection, and the first one may still come later: neither may write old data over newer. Keyed by the client's address (not
 * its port), the XID and a checksum of the whole call. Calls under way are bounded by what connections may have under way;
 * of those that ended only their status is kept, bounded in number and time (`DoneCalls`).
 */
export class DuplicateCache {
  readonly #running = new Map<string, Promise<Buffer[]>>();
  readonly #done: DoneCalls;
  /** Calls that were answered from here. */
  hits = 0;

  /** @param now milliseconds that never go back */
  constructor(now: () => number) {
    this.#done = new DoneCalls(now);
  }

  /** What was read from a socket at this time or before may be a call that is not known here any more. */
  get forgottenUntil(): number {
    return this.#done.forgottenUntil;
  }

  /** The answer of the first such call, which may still be under way; `carryOut` runs only for the first. */
  answer({ client, xid, record, carryOut, repeat }: SingleCall): Buffer[] | Promise<Buffer[]> {
    const identity: CallIdentity = { client, xid, checksum: crc32(record), length: record.length };
    const key = `${client} ${xid} ${identity.checksum} ${record.length}`;
    const running = this.#running.get(key);
    if (running !== undefined) {
      this.hits++;
      return running;
    }
    const status = this.#done.get(identity);
    if (status !== undefined) {
      this.hits++;
      return repeat(status);
    }
    const answer = carryOut();
    if (!(answer instanceof Promise)) return answer;
    // One that threw is not remembered: its connection ends.
    const answered = answer.then(
      (reply) => {
        this.#running.delete(key);
        // Failures too: one that is tried again late could meet what a newer call has written since.
        this.#done.set(identity, reply[0]?.readUInt32BE(ACCEPTED_HEAD_BYTES) ?? 0);
        return reply;
      },
      (error: unknown) => {
        this.#running.delete(key);
        throw error;
      },
    );
    this.#running.set(key, answered);
    return answered;
  }
}

/** A client by its address alone: it comes back from other ports. */
export function clientNumber(address: string): number {
  return crc32(address);
}
