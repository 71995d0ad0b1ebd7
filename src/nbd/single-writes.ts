import type { Duplex } from "node:stream";

/** Parts below it are put together: each write by itself becomes a TLS record, and a system call. Bytes. */
const SMALL = 16 * 1024;
/** What is put together at once. Bytes. */
const TOGETHER = 64 * 1024;

type OnSent = (error?: Error | null) => void;

interface Part {
  readonly bytes: Buffer;
  readonly onSent: OnSent | undefined;
}

/**
 * Writes to a TLS connection. Whatever waits there when a write ends is put into one new piece of memory before it is encrypted, however
 * much it is. So here a large part is handed over by itself, when the one before has left: it is encrypted where it lies.
 */
export class SingleWrites {
  readonly #stream: Duplex;
  readonly #onLeft: () => void;
  readonly #parts: Part[] = [];
  #bytes = 0;
  #isBusy = false;

  /** @param onLeft told when some of it has left */
  constructor(stream: Duplex, onLeft: () => void) {
    this.#stream = stream;
    this.#onLeft = onLeft;
    stream.once("close", () => this.#drop());
  }

  /** Whether the stream was given everything. */
  get isEmpty(): boolean {
    return this.#parts.length === 0;
  }

  /** Bytes that have not left yet. */
  get unsent(): number {
    return this.#bytes + this.#stream.writableLength;
  }

  /** @param onSent called once nobody reads `bytes` any more, or with an error where that is not known */
  write(bytes: Buffer, onSent?: OnSent): void {
    if (this.#stream.destroyed) {
      onSent?.(null);
      return;
    }
    this.#parts.push({ bytes, onSent });
    this.#bytes += bytes.length;
  }

  /** Hands over what may be handed over. To be called when all that is ready together has been given to {@link write}. */
  readonly flush = (): void => {
    if (this.#isBusy || this.#stream.destroyed) return;
    const small: Part[] = [];
    for (let bytes = 0; bytes < TOGETHER; ) {
      const [next] = this.#parts;
      if (next === undefined || next.bytes.length >= SMALL) break;
      small.push(next);
      bytes += next.bytes.length;
      this.#parts.shift();
    }
    const [next] = this.#parts;
    const large = next !== undefined && next.bytes.length >= SMALL ? this.#parts.shift() : undefined;
    const last = large ?? small.at(-1);
    if (last === undefined) return;
    this.#isBusy = true;
    this.#stream.cork();
    for (const part of small) this.#handOver(part, part === last);
    // Waits in the stream, alone, until the small ones have left.
    this.#stream.uncork();
    if (large !== undefined) this.#handOver(large, true);
  };

  #handOver({ bytes, onSent }: Part, isLast: boolean): void {
    this.#bytes -= bytes.length;
    this.#stream.write(bytes, (error) => {
      onSent?.(error);
      if (!isLast) return;
      this.#isBusy = false;
      this.flush();
      this.#onLeft();
    });
  }

  /** What was not handed over is read by nobody. */
  #drop(): void {
    this.#bytes = 0;
    for (const { onSent } of this.#parts.splice(0)) onSent?.(null);
  }
}
