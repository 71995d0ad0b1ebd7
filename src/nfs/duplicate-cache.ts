import { crc32 } from "node:zlib";
import type { RpcCall } from "./rpc.ts";

const ENTRIES = 65_536;
const CHECKED_BYTES = 256;

/**
 * Remembers calls that must not be carried out twice. A client that waits too long sends the same call again, perhaps over a new
 * connection, and the first one may still come later: neither may write old data over newer. Keyed by the client's address (not
 * its port), the XID and a checksum of the call; bounded in number, oldest first.
 */
export class DuplicateCache {
  readonly #calls = new Map<string, Promise<Buffer[]>>();
  /** Calls that were answered from here. */
  hits = 0;

  /** The answer of the first such call, which may still be under way; `carryOut` runs only for the first. */
  answer(address: string, call: RpcCall, record: Buffer, carryOut: () => Promise<Buffer[]>): Promise<Buffer[]> {
    const sum = crc32(record.subarray(0, CHECKED_BYTES));
    const key = `${address} ${call.xid} ${record.length} ${sum}`;
    const known = this.#calls.get(key);
    if (known !== undefined) {
      this.hits++;
      return known;
    }
    const answered = carryOut();
    this.#calls.set(key, answered);
    // One that failed is not remembered: the client asks again, and it is tried again.
    answered.catch(() => this.#calls.delete(key));
    if (this.#calls.size > ENTRIES) {
      const oldest = this.#calls.keys().next().value;
      if (oldest !== undefined) this.#calls.delete(oldest);
    }
    return answered;
  }
}
