import type { ReadRequest } from "./image-file.ts";

interface Loading {
  readonly request: ReadRequest;
  readonly content: Promise<Buffer>;
}

/**
 * What was read of an image's tables or unpacked of its clusters, bounded in bytes; what was used longest ago goes first. Readers of one
 * class share what is being loaded. One of another class loads for itself, so that a guest never waits behind what is staged.
 */
export class LoadCache {
  readonly #limit: number;
  readonly #entries = new Map<string, Buffer>();
  readonly #loading = new Map<string, Loading>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limit = limitBytes;
  }

  /** Bytes held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What `load` gives, or gave: shared, so read it only. */
  async get(key: string, request: ReadRequest, load: (request: ReadRequest) => Promise<Buffer>): Promise<Buffer> {
    const found = this.#entries.get(key);
    if (found !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, found);
      return found;
    }
    const name = `${request.readClass} ${key}`;
    let loading = this.#loading.get(name);
    if (loading === undefined) {
      const own: ReadRequest = { readClass: request.readClass, missed: false };
      loading = { request: own, content: this.#load(name, key, own, load) };
      this.#loading.set(name, loading);
    }
    try {
      return await loading.content;
    } finally {
      if (loading.request.missed) request.missed = true;
    }
  }

  async #load(
    name: string,
    key: string,
    request: ReadRequest,
    load: (request: ReadRequest) => Promise<Buffer>,
  ): Promise<Buffer> {
    try {
      const content = await load(request);
      this.#put(key, content);
      return content;
    } finally {
      this.#loading.delete(name);
    }
  }

  #put(key: string, content: Buffer): void {
    this.#bytes += content.length - (this.#entries.get(key)?.length ?? 0);
    this.#entries.delete(key);
    this.#entries.set(key, content);
    for (const [oldest, { length }] of this.#entries) {
      if (this.#bytes <= this.#limit) return;
      this.#entries.delete(oldest);
      this.#bytes -= length;
    }
  }
}
