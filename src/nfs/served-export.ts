import { encodeAttributes, setTimes } from "./attributes.ts";
import type { NfsExport } from "./export.ts";
import { exportTag, makeHandle, NODE, type NodeKind } from "./handle.ts";

/** An export while it is served. Times are nanoseconds since the epoch. */
export class ServedExport {
  readonly target: NfsExport;
  readonly tag: string;
  /** Connections that have used one of its handles and are still open. */
  connections = 0;
  readonly #now: () => number;
  readonly #server: Buffer;
  #modified: bigint;
  /** As they go into replies: most replies bear them. */
  readonly #root: Buffer;
  readonly #file: Buffer;

  /**
   * @param server what handles bear of the server
   * @param now milliseconds since the epoch
   */
  constructor(target: NfsExport, server: Buffer, now: () => number) {
    this.target = target;
    this.#server = server;
    this.tag = exportTag(target.path);
    this.#now = now;
    this.#modified = BigInt(Math.floor(now())) * 1_000_000n;
    this.#root = encodeAttributes(target, NODE.root, this.#modified);
    this.#file = encodeAttributes(target, NODE.file, this.#modified);
  }

  /** As the mount of this number knows it. */
  handle(kind: NodeKind, mount: number): Buffer {
    return makeHandle(this.#server, this.target, kind, mount);
  }

  /** The fattr3 as it is now; not to be kept. */
  attributes(kind: NodeKind): Buffer {
    return kind === NODE.file ? this.#file : this.#root;
  }

  /** A write happened: the modification time goes on, even if the clock did not. */
  touch(): void {
    const now = BigInt(Math.floor(this.#now())) * 1_000_000n;
    this.#modified = now > this.#modified ? now : this.#modified + 1n;
    setTimes(this.#file, this.#modified);
  }
}
