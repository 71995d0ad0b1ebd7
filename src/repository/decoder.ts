import { Worker } from "node:worker_threads";
import { type Deferred, deferred } from "../base/deferred.ts";
import { workerUrl } from "../base/worker-url.ts";
import type { BlobLocation } from "./blob-table.ts";
import type { CryptoKey } from "./crypto.ts";
import { RepositoryError, type RepositoryErrorCode } from "./errors.ts";
import type { IdMemory } from "./id-table.ts";
import type { IndexEntries, Selection } from "./index-file.ts";
import type { Tree } from "./tree.ts";

export type DecodeRequest =
  | {
      /** A tree comes back parsed, data as it is. */
      readonly kind: "data" | "tree";
      readonly id: string;
      readonly pack: string;
      readonly sealed: Uint8Array;
      readonly uncompressedLength: number;
    }
  | {
      readonly kind: "index";
      readonly name: string;
      readonly sealed: Uint8Array;
      readonly selection: "all" | "trees" | IdMemory;
    }
  /** The id that a blob of `length` zeros has. */
  | { readonly kind: "zeros"; readonly length: number };

export interface DecodeReply {
  readonly number: number;
  readonly value?: Uint8Array | IndexEntries | Tree | string;
  readonly failure?: { readonly code: string; readonly message: string; readonly hint: string | undefined };
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Deferred<unknown>>;
}

/** The first message that a thread is sent. */
export interface DecodeKey {
  readonly kind: "key";
  readonly key: CryptoKey;
}

function startWorker(): Worker {
  return new Worker(workerUrl(import.meta.url, "./decode-worker"), {
    // What it makes of a file is a few large pieces; small garbage is not to pile up to 48 MiB in each thread.
    resourceLimits: { maxYoungGenerationSizeMb: 3 },
  });
}

/**
 * Decrypts, verifies, decompresses and parses on worker threads: a blob takes milliseconds, which the event loop does not
 * have. How much may be under way at once is the caller's to bound (the read scheduler's slots). A thread that dies fails what
 * it had under way, and another takes its place.
 */
export class Decoder {
  readonly #startWorker: () => Worker;
  readonly #count: number;
  readonly #threads: Thread[] = [];
  #key: CryptoKey | undefined;
  #next = 0;
  #closed = false;

  /**
   * @param threads number of worker threads, at least 1
   * @param startThread makes a worker that runs the module `decode-worker`
   */
  constructor(threads: number, startThread: () => Worker = startWorker) {
    this.#count = threads;
    this.#startWorker = startThread;
  }

  /** Starts the threads, so that they are there when the key is: it takes each of them a tenth of a second. */
  start(): void {
    while (!this.#closed && this.#threads.length < this.#count) this.#threads.push(this.#startThread());
  }

  /** Has to be called, once, before anything is asked. */
  useKey(key: CryptoKey): void {
    for (const { worker } of this.#threads) worker.postMessage({ kind: "key", key } satisfies DecodeKey);
    this.#key = key;
    this.start();
  }

  /** The plain bytes of a data blob. */
  async blob(id: string, { pack, uncompressedLength }: BlobLocation, sealed: Buffer): Promise<Buffer> {
    const answer = await this.#ask({ kind: "data", id, pack, sealed, uncompressedLength }, sealed);
    const plain = answer as Uint8Array<ArrayBuffer>;
    return Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
  }

  async tree(id: string, { pack, uncompressedLength }: BlobLocation, sealed: Buffer): Promise<Tree> {
    return (await this.#ask({ kind: "tree", id, pack, sealed, uncompressedLength }, sealed)) as Tree;
  }

  async index(name: string, sealed: Buffer, selected: Selection): Promise<IndexEntries> {
    const selection = typeof selected === "string" ? selected : selected.memory;
    return (await this.#ask({ kind: "index", name, sealed, selection }, sealed)) as IndexEntries;
  }

  async zeroId(length: number): Promise<string> {
    return (await this.#ask({ kind: "zeros", length })) as string;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#threads.map((thread) => thread.worker.terminate()));
  }

  async #ask(request: DecodeRequest, given?: Buffer): Promise<unknown> {
    if (this.#closed) throw new RepositoryError("REPOSITORY_UNREACHABLE", "the repository was closed");
    const thread = this.#threads.reduce((least, other) => (other.waiting.size < least.waiting.size ? other : least));
    const number = this.#next++;
    const answer = deferred<unknown>();
    thread.waiting.set(number, answer);
    // While somebody waits for it, the thread keeps the process alive; idle, it does not.
    thread.worker.ref();
    const transfer =
      given !== undefined && given.byteLength === given.buffer.byteLength ? [given.buffer as ArrayBuffer] : [];
    thread.worker.postMessage({ ...request, number }, transfer);
    return answer.promise;
  }

  #startThread(): Thread {
    const thread: Thread = { worker: this.#startWorker(), waiting: new Map() };
    if (this.#key !== undefined) thread.worker.postMessage({ kind: "key", key: this.#key } satisfies DecodeKey);
    thread.worker.on("message", (reply: DecodeReply) => settle(thread, reply));
    let reason: unknown;
    thread.worker.on("error", (error) => {
      reason = error;
    });
    thread.worker.on("exit", () => {
      const at = this.#threads.indexOf(thread);
      if (!this.#closed && at >= 0) this.#threads[at] = this.#startThread();
      for (const answer of thread.waiting.values()) {
        answer.reject(new RepositoryError("REPOSITORY_UNREACHABLE", "the decoding thread ended", { cause: reason }));
      }
      thread.waiting.clear();
    });
    thread.worker.unref();
    return thread;
  }
}

function settle({ worker, waiting }: Thread, { number, value, failure }: DecodeReply): void {
  const answer = waiting.get(number);
  waiting.delete(number);
  if (waiting.size === 0) worker.unref();
  if (failure === undefined) {
    answer?.resolve(value);
    return;
  }
  const { code, message, hint } = failure;
  answer?.reject(new RepositoryError(code as RepositoryErrorCode, message, hint === undefined ? {} : { hint }));
}
