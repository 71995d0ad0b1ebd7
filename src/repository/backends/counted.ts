import type { Backend, FileName } from "./backend.ts";
import { ForwardingBackend } from "./forwarding.ts";

/** Counted since the backend was opened. */
export interface BackendCounters {
  /** Reads of whole files and of ranges, failed ones too. */
  requests: number;
  /** Bytes that those reads gave. */
  bytesFetched: number;
}

/** A backend that counts what is read from it. */
export class CountedBackend extends ForwardingBackend {
  readonly #counters: BackendCounters;

  constructor(backend: Backend, counters: BackendCounters) {
    super(backend);
    this.#counters = counters;
  }

  override readAll(file: FileName, limit: number): Promise<Buffer> {
    return this.#count(super.readAll(file, limit));
  }

  override readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
    return this.#count(super.readRange(file, offset, length));
  }

  async #count(read: Promise<Buffer>): Promise<Buffer> {
    this.#counters.requests++;
    const content = await read;
    this.#counters.bytesFetched += content.length;
    return content;
  }
}
