import type { Backend, FileName, FileType } from "./backend.ts";

/** Counted since the backend was opened. */
export interface BackendCounters {
  /** Reads of whole files and of ranges, failed ones too. */
  requests: number;
  /** Bytes that those reads gave. */
  bytesFetched: number;
}

/** A backend that counts what is read from it. */
export class CountedBackend implements Backend {
  readonly location: string;
  readonly requestCost: number;
  readonly #backend: Backend;
  readonly #counters: BackendCounters;

  constructor(backend: Backend, counters: BackendCounters) {
    this.location = backend.location;
    this.requestCost = backend.requestCost;
    this.#backend = backend;
    this.#counters = counters;
  }

  readAll(file: FileName, limit: number): Promise<Buffer> {
    return this.#count(this.#backend.readAll(file, limit));
  }

  readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
    return this.#count(this.#backend.readRange(file, offset, length));
  }

  list(type: FileType): Promise<string[]> {
    return this.#backend.list(type);
  }

  exists(file: FileName): Promise<boolean> {
    return this.#backend.exists(file);
  }

  save(file: FileName, content: Buffer): Promise<void> {
    return this.#backend.save(file, content);
  }

  remove(file: FileName): Promise<void> {
    return this.#backend.remove(file);
  }

  close(): Promise<void> {
    return this.#backend.close();
  }

  async #count(read: Promise<Buffer>): Promise<Buffer> {
    this.#counters.requests++;
    const content = await read;
    this.#counters.bytesFetched += content.length;
    return content;
  }
}
