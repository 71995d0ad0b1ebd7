import { crc32 } from "../base/crc32.ts";
import { type CallIdentity, DoneCalls } from "./done-calls.ts";
import { ACCEPTED_HEAD_BYTES } from "./rpc.ts";

/** Where a call's program, version and procedure are (RFC 5531, section 9). */
const PROCEDURE_AT = 12;
const CREDENTIALS_AT = 24;

/** A call as it was received. */
export interface ReceivedCall {
  /** Who calls, as {@link Credentials} number it. */
  readonly caller: number;
  readonly xid: number;
  /** The whole call. */
  readonly record: Buffer;
  /** Where its arguments begin. */
  readonly argumentsAt: number;
}

/** One call that must not be carried out twice. */
export interface SingleCall extends ReceivedCall {
  /** The connection over which it came. */
  readonly connection: object;
  /** Carries it out, and gives its reply; at once where it is refused and nothing was done. */
  readonly carryOut: () => Buffer[] | Promise<Buffer[]>;
  /** The reply to a call that ended with this status; its arguments have not been read. */
  readonly repeat: (status: number) => Buffer[];
}

/**
 * Keeps calls from being carried out twice. A client that waits too long sends the same call again, perhaps over a new
 * connection, and the first one may still come later: neither may write old data over newer. Keyed by the name and uid that the
 * client gives itself, the XID and a checksum of procedure and arguments: it may come back from another address (a gateway's), and
 * encode the call anew with another stamp (Linux before 5.1 puts the time there). Calls under way are bounded by what connections
 * may have under way; of those that ended only their status is kept, bounded in number and time (`DoneCalls`).
 */
export class DuplicateCache {
  /** By XID: different calls with one XID are rare, but may be. */
  readonly #running = new Map<number, RunningCall[]>();
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

  /** Whether the same call is under way, over whichever connection it came. */
  isRunning(call: ReceivedCall): boolean {
    return this.#running.has(call.xid) && this.#find(identityOf(call)) !== undefined;
  }

  /**
   * The answer of the first such call, which may still be under way; `carryOut` runs only for the first. Empty where that answer goes to
   * the same connection anyhow: a client that sends a call again waits for one answer.
   */
  answer(received: SingleCall): Buffer[] | Promise<Buffer[]> {
    const { xid, connection, carryOut, repeat } = received;
    const identity = identityOf(received);
    const running = this.#find(identity);
    if (running !== undefined) {
      this.hits++;
      if (running.connections.has(connection)) return [];
      running.connections.add(connection);
      return running.answer;
    }
    const status = this.#done.get(identity);
    if (status !== undefined) {
      this.hits++;
      return repeat(status);
    }
    const answer = carryOut();
    if (!(answer instanceof Promise)) return answer;
    // One that threw is not remembered: its connection ends.
    const call: RunningCall = {
      identity,
      connections: new Set([connection]),
      answer: answer.then(
        (reply) => {
          this.#forget(call);
          // Failures too: one that is tried again late could meet what a newer call has written since.
          this.#done.set(identity, reply[0]?.readUInt32BE(ACCEPTED_HEAD_BYTES) ?? 0);
          return reply;
        },
        (error: unknown) => {
          this.#forget(call);
          throw error;
        },
      ),
    };
    const others = this.#running.get(xid);
    if (others === undefined) this.#running.set(xid, [call]);
    else others.push(call);
    return call.answer;
  }

  #find(identity: CallIdentity): RunningCall | undefined {
    return this.#running.get(identity.xid)?.find((call) => isSame(call.identity, identity));
  }

  #forget(call: RunningCall): void {
    const { xid } = call.identity;
    const others = this.#running.get(xid)?.filter((other) => other !== call) ?? [];
    if (others.length === 0) this.#running.delete(xid);
    else this.#running.set(xid, others);
  }
}

interface RunningCall {
  readonly identity: CallIdentity;
  readonly answer: Promise<Buffer[]>;
  /** Those that the answer goes to. */
  readonly connections: Set<object>;
}

function identityOf({ caller, xid, record, argumentsAt }: ReceivedCall): CallIdentity {
  const args = record.subarray(argumentsAt);
  const checksum = crc32(args, crc32(record.subarray(PROCEDURE_AT, CREDENTIALS_AT)));
  return { caller, xid, checksum, length: args.length };
}

function isSame(one: CallIdentity, other: CallIdentity): boolean {
  return one.checksum === other.checksum && one.caller === other.caller && one.length === other.length;
}
