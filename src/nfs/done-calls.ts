/** What tells a call from every other. All numbers are 32 bits wide. */
export interface CallIdentity {
  /** Of the name and uid that the client gives itself. */
  readonly caller: number;
  readonly xid: number;
  /** Of procedure and arguments. */
  readonly checksum: number;
  /** Of the arguments, in bytes. */
  readonly length: number;
}

const WORDS = 4;

/** One of the tables: as many calls as it takes, in a fixed piece of memory. */
class Table {
  readonly began: number;
  last: number;
  count = 0;
  readonly #mask: number;
  readonly #keys: Uint32Array;
  /** The call's status and one, so that 0 is a free place. */
  readonly #results: Uint16Array;

  constructor(calls: number, now: number) {
    this.began = now;
    this.last = now;
    // Never more than half full, so that a free place is near.
    const places = 2 ** Math.ceil(Math.log2(calls * 2));
    this.#mask = places - 1;
    this.#keys = new Uint32Array(places * WORDS);
    this.#results = new Uint16Array(places);
  }

  get(call: CallIdentity): number | undefined {
    const result = this.#results[this.#find(call)] as number;
    return result === 0 ? undefined : result - 1;
  }

  set(call: CallIdentity, status: number): void {
    const place = this.#find(call);
    if (this.#results[place] === 0) this.count++;
    this.#results[place] = status + 1;
    const at = place * WORDS;
    this.#keys[at] = call.caller;
    this.#keys[at + 1] = call.xid;
    this.#keys[at + 2] = call.checksum;
    this.#keys[at + 3] = call.length;
  }

  /** Where the call is, or the free place where it belongs. */
  #find({ caller, xid, checksum, length }: CallIdentity): number {
    const keys = this.#keys;
    let place = Math.imul(xid ^ checksum, 0x9e3779b1) >>> 0;
    for (;;) {
      place &= this.#mask;
      const at = place * WORDS;
      if (this.#results[place] === 0) return place;
      if (keys[at + 1] === xid && keys[at + 2] === checksum && keys[at] === caller && keys[at + 3] === length)
        return place;
      place++;
    }
  }
}

export interface DoneCallsLimits {
  readonly tables: number;
  readonly callsPerTable: number;
  readonly retainMs: number;
}

/** 524,288 calls in 19 MiB at most: a client that writes 5,000 times a second is remembered for over 100 seconds. */
const LIMITS: DoneCallsLimits = { tables: 8, callsPerTable: 65_536, retainMs: 600_000 };

/** Remembers how calls ended, for a time and in a number that are bounded, 36 bytes each. */
export class DoneCalls {
  readonly #limits: DoneCallsLimits;
  readonly #now: () => number;
  /** The newest first. */
  #tables: Table[] = [];
  #forgottenUntil = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds that never go back */
  constructor(now: () => number, limits: DoneCallsLimits = LIMITS) {
    this.#now = now;
    this.#limits = limits;
  }

  /** Every call that ended after this time is still known. */
  get forgottenUntil(): number {
    return this.#forgottenUntil;
  }

  /** The status with which a call ended. */
  get(call: CallIdentity): number | undefined {
    for (const table of this.#tables) {
      const status = table.get(call);
      if (status !== undefined) return status;
    }
    return undefined;
  }

  /** @param status below 65,535 */
  set(call: CallIdentity, status: number): void {
    const now = this.#now();
    const { tables, callsPerTable, retainMs } = this.#limits;
    let [newest] = this.#tables;
    if (newest === undefined || newest.count >= callsPerTable || now - newest.began > retainMs / tables) {
      newest = new Table(callsPerTable, now);
      this.#tables.unshift(newest);
      this.#forget(now);
    }
    newest.last = now;
    newest.set(call, status);
  }

  #forget(now: number): void {
    const { tables, retainMs } = this.#limits;
    const kept = this.#tables.filter(({ last }, index) => index < tables && now - last <= retainMs);
    const [gone] = this.#tables.slice(kept.length);
    if (gone !== undefined) this.#forgottenUntil = gone.last;
    this.#tables = kept;
  }
}
