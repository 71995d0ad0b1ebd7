import { ReadBuffers } from "../base/read-buffers.ts";
import type { NfsExport } from "./export.ts";

/** Of the replies to several small calls. */
export const GATHERED_BYTES = 64 * 1024;

/** Buffers that the data of READ replies lies in: used again once the socket has taken it. */
export class ReplyBuffers {
  readonly #buffers = new ReadBuffers();
  /** By the data that lies in them. */
  readonly #lent = new WeakMap<Buffer, Buffer>();

  /** Reads from an export. Where the data is never sent, its buffer is not used again, and nothing else happens. */
  async read(target: Pick<NfsExport, "read">, offset: number, length: number): Promise<Buffer> {
    const buffer = this.#buffers.take(length);
    // One that a failed read was given is left alone: something may still write into it.
    const data = await target.read(offset, length, buffer);
    if (data.buffer === buffer.buffer) this.#lent.set(data, buffer);
    else this.#buffers.give(buffer);
    return data;
  }

  /** An empty buffer of {@link GATHERED_BYTES} for short replies that leave together. Each is given back or forgotten. */
  gather(): Buffer {
    return this.#buffers.take(GATHERED_BYTES);
  }

  /** What was gathered is with the system, or will never be sent. */
  gathered(buffer: Buffer, error?: Error | null): void {
    if (error === undefined || error === null) this.#buffers.give(buffer);
    else this.#buffers.forget(buffer);
  }

  /** A piece of a reply was copied: its buffer is free. */
  copied(piece: Buffer): void {
    const buffer = this.#lent.get(piece);
    if (buffer === undefined) return;
    this.#lent.delete(piece);
    this.#buffers.give(buffer);
  }

  /** What the socket has to call when it has taken a piece of a reply; undefined where that matters to nobody. */
  whenSent(piece: Buffer): ((error?: Error | null) => void) | undefined {
    const buffer = this.#lent.get(piece);
    if (buffer === undefined) return undefined;
    return (error) => {
      this.#lent.delete(piece);
      // After a failure the system may still be reading it.
      if (error === undefined || error === null) this.#buffers.give(buffer);
    };
  }
}
