import type { Duplex } from "node:stream";
import { ByteQueue } from "../base/byte-queue.ts";
import { NbdError } from "./errors.ts";

/** Reads exact numbers of bytes from a socket, for the parts of the protocol where each step waits for the other side. */
export class ByteStream {
  readonly stream: Duplex;
  readonly #queue = new ByteQueue();
  #wake: (() => void) | undefined;
  #ended: NbdError | undefined;

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on("data", this.#onData);
    stream.on("close", this.#onClose);
    stream.on("error", this.#onClose);
  }

  /** @throws NbdError NBD_DISCONNECTED where the other side goes before that */
  async read(length: number): Promise<Buffer> {
    while (this.#queue.length < length) {
      if (this.#ended !== undefined) throw this.#ended;
      if (this.stream.isPaused()) this.stream.resume();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#queue.take(length);
  }

  write(bytes: Uint8Array): void {
    if (!this.stream.destroyed) this.stream.write(bytes);
  }

  /** Lets go of the socket, paused; gives back what was read ahead. */
  detach(): Buffer {
    this.stream.pause();
    this.stream.off("data", this.#onData);
    this.stream.off("close", this.#onClose);
    this.stream.off("error", this.#onClose);
    return this.#queue.take(this.#queue.length);
  }

  readonly #onData = (piece: Buffer): void => {
    this.#queue.push(piece);
    // Nobody reads ahead without bound: the next read resumes.
    this.stream.pause();
    this.#wake?.();
  };

  readonly #onClose = (): void => {
    this.#ended ??= new NbdError("NBD_DISCONNECTED", "the other side closed the connection");
    this.#wake?.();
  };
}
