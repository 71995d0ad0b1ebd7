import { type Deferred, deferred } from "../base/deferred.ts";
import type { Backend } from "./backends/backend.ts";
import { RepositoryError } from "./errors.ts";
import { groupRanges, type PackRange, type ReadGroup } from "./read-groups.ts";
import { release } from "./release.ts";

/** A few blobs: more in one answer would keep the first of them waiting for the last. */
const MOST = 8 * 1024 * 1024;

interface WantedRange extends PackRange {
  readonly content: Deferred<Buffer>;
}

/**
 * Reads ranges of packs, those that are asked for in one turn of the event loop and lie close together in one request: a guest's
 * read that spans blobs, or a set that is staged. Where requests cost nothing, each is read by itself and at once.
 */
export class GroupedReads {
  readonly #backend: Backend;
  #wanted: WantedRange[] = [];

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Exactly those bytes, in a buffer of their own. @throws RepositoryError as `Backend.readRange` */
  read(pack: string, offset: number, length: number): Promise<Buffer> {
    if (this.#backend.requestCost === 0) return this.#readOne({ pack, offset, length });
    const content = deferred<Buffer>();
    if (this.#wanted.length === 0) setImmediate(() => this.#readWanted());
    this.#wanted.push({ pack, offset, length, content });
    return content.promise;
  }

  #readWanted(): void {
    const wanted = this.#wanted;
    this.#wanted = [];
    for (const group of groupRanges(wanted, { gap: this.#backend.requestCost, most: MOST })) {
      void this.#readGroup(group);
    }
  }

  #readOne({ pack, offset, length }: PackRange): Promise<Buffer> {
    return this.#backend.readRange({ type: "data", name: pack }, offset, length);
  }

  async #readGroup(group: ReadGroup<WantedRange>): Promise<void> {
    const [only] = group.parts;
    if (group.parts.length === 1 && only !== undefined) {
      this.#readOne(only).then(only.content.resolve, only.content.reject);
      return;
    }
    try {
      const content = await this.#readOne(group);
      for (const { offset, length, content: part } of group.parts) {
        const from = offset - group.offset;
        part.resolve(Buffer.from(content.buffer.slice(content.byteOffset + from, content.byteOffset + from + length)));
      }
      if (content.byteLength === content.buffer.byteLength) release(content);
    } catch (error) {
      const isShared = error instanceof RepositoryError && error.code === "REPOSITORY_UNREACHABLE";
      for (const part of group.parts) {
        // What is wrong with one of them, such as a pack that was cut off, need not be wrong with the others.
        if (isShared) part.content.reject(error);
        else this.#readOne(part).then(part.content.resolve, part.content.reject);
      }
    }
  }
}
