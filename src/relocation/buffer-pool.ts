/** As far as it is used here; Node's types leave it out. */
declare const WebAssembly: {
  readonly Memory: new (pages: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
};

const WASM_PAGE = 64 * 1024;
/** Buffers that share one memory: each one reserves gigabytes of addresses, if not of memory. */
const TOGETHER = 8;
/** Memory that begins at a page: what O_DIRECT asks for, and what a Buffer's own memory does not do. */
const aligned = new WeakSet<ArrayBufferLike>();

/** Whether the kernel may write a buffer's bytes to a device without a copy: they begin at a multiple of 4 KiB. */
export function isPageAligned(bytes: Buffer): boolean {
  return bytes.byteOffset % 4096 === 0 && aligned.has(bytes.buffer);
}

/** A buffer of as many bytes as wanted at least, that begins at a page. */
export function pageAligned(bytes: number): Buffer {
  const pages = Math.ceil(bytes / WASM_PAGE);
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
  aligned.add(buffer);
  return Buffer.from(buffer);
}

/**
 * Buffers of one size that are used again: making and clearing a new one for each read costs as much as the read. They begin at
 * pages, because they lie in memory as WebAssembly has it.
 */
export class BufferPool {
  readonly #size: number;
  readonly #free: Buffer[] = [];

  /** @param size bytes of each buffer, a multiple of 64 KiB */
  constructor(size: number) {
    this.#size = size;
  }

  /** Lends a buffer, with whatever it holds, for as long as `body` runs. */
  async use<T>(body: (buffer: Buffer) => Promise<T>): Promise<T> {
    const buffer = this.#free.pop() ?? this.#make();
    try {
      return await body(buffer);
    } finally {
      this.#free.push(buffer);
    }
  }

  #make(): Buffer {
    const all = pageAligned(TOGETHER * this.#size);
    const part = (index: number): Buffer => all.subarray(index * this.#size, (index + 1) * this.#size);
    for (let index = 1; index < TOGETHER; index++) this.#free.push(part(index));
    return part(0);
  }
}
