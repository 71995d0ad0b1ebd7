import type { NfsExport } from "./export.ts";
import { exportTag } from "./handle.ts";

/** An export while it is served. Times are nanoseconds since the epoch. */
export class ServedExport {
  readonly target: NfsExport;
  readonly tag: string;
  readonly created: bigint;
  modified: bigint;
  /** Connections that have used one of its handles and are still open. */
  connections = 0;
  readonly #now: () => number;

  /** @param now milliseconds since the epoch */
  constructor(target: NfsExport, now: () => number) {
    this.target = target;
    this.tag = exportTag(target.path);
    this.#now = now;
    this.created = BigInt(Math.floor(now())) * 1_000_000n;
    this.modified = this.created;
  }

  /** A write happened: the modification time goes on, even if the clock did not. */
  touch(): void {
    const now = BigInt(Math.floor(this.#now())) * 1_000_000n;
    this.modified = now > this.modified ? now : this.modified + 1n;
  }
}
