import { Worker } from "node:worker_threads";
import { type Deferred, deferred } from "../base/deferred.ts";
import { workerUrl } from "../base/worker-url.ts";
import { RelocationError } from "./errors.ts";

export type HashRequest =
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "zeros"; readonly length: number }
  | { readonly kind: "file"; readonly path: string; readonly from: number; readonly to: number }
  | { readonly kind: "digest" };

export interface HashReply {
  readonly digest?: string;
  readonly failure?: string;
}

/** SHA-256 of an image, front to back, on a thread of its own: the event loop has other things to do. */
export class ImageHash {
  readonly #worker = new Worker(workerUrl(import.meta.url, "./hash-worker"));
  readonly #waiting: Deferred<string | undefined>[] = [];
  #ended: RelocationError | undefined;

  constructor() {
    this.#worker.on("message", ({ digest, failure }: HashReply) => {
      const next = this.#waiting.shift();
      if (failure === undefined) next?.resolve(digest);
      else next?.reject(new RelocationError("RELOCATION_TARGET_FAILED", `hashing: ${failure}`));
    });
    const onEnd = (cause: unknown): void => {
      this.#ended ??= new RelocationError("RELOCATION_TARGET_FAILED", "the hashing thread ended", { cause });
      for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#ended);
    };
    this.#worker.on("error", onEnd);
    this.#worker.on("exit", onEnd);
  }

  /** Takes the bytes: their buffer may be given to the thread. Resolves when they are hashed. */
  async data(bytes: Buffer): Promise<void> {
    const isOwn = bytes.byteLength === bytes.buffer.byteLength;
    await this.#ask({ kind: "data", bytes }, isOwn ? [bytes.buffer as ArrayBuffer] : []);
  }

  async zeros(length: number): Promise<void> {
    await this.#ask({ kind: "zeros", length });
  }

  /** The bytes `[from, to)` of a file or device. @throws RelocationError RELOCATION_TARGET_FAILED */
  async file(path: string, from: number, to: number): Promise<void> {
    await this.#ask({ kind: "file", path, from, to });
  }

  /** Of everything given before, hex; ends it. */
  async digest(): Promise<string> {
    return (await this.#ask({ kind: "digest" })) ?? "";
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #ask(request: HashRequest, transfer: ArrayBuffer[] = []): Promise<string | undefined> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const answer = deferred<string | undefined>();
    this.#waiting.push(answer);
    this.#worker.postMessage(request, transfer);
    return answer.promise;
  }
}
