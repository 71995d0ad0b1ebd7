import { Worker } from "node:worker_threads";
import { type Deferred, deferred } from "../base/deferred.ts";
import { workerUrl } from "../base/worker-url.ts";
import type { CryptoKey } from "./crypto.ts";
import { RepositoryError, type RepositoryErrorCode } from "./errors.ts";
import type { IndexEntries } from "./index-file.ts";

export type DecodeRequest =
  | {
      readonly kind: "blob";
      readonly id: string;
      readonly pack: string;
      readonly sealed: Uint8Array;
      readonly uncompressedLength: number;
    }
  /** Without `wanted`: every tree blob; with it: the data blobs in that set. */
  | {
      readonly kind: "index";
      readonly name: string;
      readonly sealed: Uint8Array;
      readonly wanted: SharedArrayBuffer | undefined;
    }
  /** The id that a blob of `length` zeros has. */
  | { readonly kind: "zeros"; readonly length: number };

export interface DecodeReply {
  readonly number: number;
  readonly value?: Uint8Array | IndexEntries | string;
  readonly failure?: { readonly code: string; readonly message: string; readonly hint: string | undefined };
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Deferred<unknown>>;
}

/**
 * Decrypts, verifies and decompresses on worker threads: a blob takes milliseconds, which the event loop does not have.
 * How much may be under way at once is the caller's to bound (the read scheduler's slots).
 */
export class Decoder {
  readonly #threads: Thread[];
  #next = 0;
  #closed = false;

  /** @param threads number of worker threads, at least 1. */
  constructor(key: CryptoKey, threads: number) {
    this.#threads = Array.from({ length: threads }, () => this.#start(key));
  }

  async blob(id: string, pack: string, sealed: Buffer, uncompressedLength: number): Promise<Buffer> {
    const plain = (await this.#ask(
      { kind: "blob", id, pack, sealed, uncompressedLength },
      sealed,
    )) as Uint8Array<ArrayBuffer>;
    return Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
  }

  async index(name: string, sealed: Buffer, wanted: SharedArrayBuffer | undefined): Promise<IndexEntries> {
    return (await this.#ask({ kind: "index", name, sealed, wanted }, sealed)) as IndexEntries;
  }

  async zeroId(length: number): Promise<string> {
    return (await this.#ask({ kind: "zeros", length })) as string;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#threads.map((thread) => thread.worker.terminate()));
  }

  #ask(request: DecodeRequest, given?: Buffer): Promise<unknown> {
    if (this.#closed) throw new RepositoryError("REPOSITORY_UNREACHABLE", "the repository was closed");
    const thread = this.#threads.reduce((least, other) => (other.waiting.size < least.waiting.size ? other : least));
    const number = this.#next++;
    const answer = deferred<unknown>();
    thread.waiting.set(number, answer);
    const transfer =
      given !== undefined && given.byteLength === given.buffer.byteLength ? [given.buffer as ArrayBuffer] : [];
    thread.worker.postMessage({ ...request, number }, transfer);
    return answer.promise;
  }

  #start(key: CryptoKey): Thread {
    const worker = new Worker(workerUrl(import.meta.url, "./decode-worker"), { workerData: key });
    const waiting = new Map<number, Deferred<unknown>>();
    worker.on("message", (reply: DecodeReply) => {
      const answer = waiting.get(reply.number);
      waiting.delete(reply.number);
      const { failure } = reply;
      if (failure === undefined) answer?.resolve(reply.value);
      else {
        answer?.reject(
          new RepositoryError(
            failure.code as RepositoryErrorCode,
            failure.message,
            failure.hint === undefined ? {} : { hint: failure.hint },
          ),
        );
      }
    });
    const fail = (cause: unknown): void => {
      for (const answer of waiting.values()) {
        answer.reject(new RepositoryError("REPOSITORY_UNREACHABLE", "the decoding thread ended", { cause }));
      }
      waiting.clear();
    };
    worker.on("error", fail);
    worker.on("exit", fail);
    worker.unref();
    return { worker, waiting };
  }
}
