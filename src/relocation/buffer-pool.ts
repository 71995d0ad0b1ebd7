/** Buffers of one size that are used again: making and clearing a new one for each read costs as much as the read. */
export class BufferPool {
  readonly #size: number;
  readonly #free: Buffer[] = [];

  /** @param size bytes of each buffer */
  constructor(size: number) {
    this.#size = size;
  }

  /** Lends a buffer, with whatever it holds, for as long as `body` runs. */
  async use<T>(body: (buffer: Buffer) => Promise<T>): Promise<T> {
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#size);
    try {
      return await body(buffer);
    } finally {
      this.#free.push(buffer);
    }
  }
}
