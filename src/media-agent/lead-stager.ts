import { setImmediate as nextTurn } from "node:timers/promises";
import { type Deferred, deferred } from "../base/deferred.ts";
import type { FileBlob } from "../repository/repository-file.ts";
import type { BlobTracker } from "./blob-tracker.ts";

/** Behind the cursor by this much (or half a window), a blob that was not read is not going to be. */
const PASSED_BYTES = 64 * 1024 * 1024;

/** Blobs looked at before others get their turn: most of a large disk is zeros, or in the cache already. */
const LOOKS_AT_ONCE = 1000;

interface LeadDisk {
  readonly file: {
    readonly size: number;
    readonly blobCount: number;
    blob(index: number): FileBlob;
    indexAt(offset: number): number;
  };
  /** Where the relocation has come to, bytes. */
  readonly cursor: { readonly position: number };
}

export interface LeadStagerOptions {
  readonly disks: readonly LeadDisk[];
  readonly cache: { has(id: string): boolean };
  readonly scheduler: { stage(id: string, reason: "lead" | "ahead"): Promise<void> };
  readonly tracker: Pick<BlobTracker, "leadBytes" | "markLead" | "passed">;
  /** Staged bytes that the relocation has not read yet, at most; well below the cache's size. */
  readonly windowBytes: number;
  /** Fetches under way, at most. */
  readonly atOnce: number;
}

/** Why something is staged, and whether with all that there is (`atOnce`) or one fetch after the other. */
export interface Lead {
  readonly reason: "lead" | "ahead";
  readonly pace: "full" | "gentle";
}

interface Place {
  readonly disk: LeadDisk;
  /** The next blob to look at. */
  next: number;
  /** Blobs below it count as passed. */
  passed: number;
  cursor: number;
}

/**
 * Stages what the relocation is going to read, in its order: before it runs (`ahead`) and then in front of its cursor (`lead`). Never
 * more than a window of bytes that are staged and unread.
 */
export class LeadStager {
  readonly #options: LeadStagerOptions;
  readonly #places: Place[];
  #turn = 0;
  /** Blobs that were asked for, and their bytes: disks of one image want the same. */
  readonly #underWay = new Set<string>();
  #inFlight = 0;
  #changed: Deferred<void> = deferred<void>();
  #lead: Lead | undefined;

  constructor(options: LeadStagerOptions) {
    this.#options = options;
    this.#places = options.disks.map((disk) => ({ disk, next: 0, passed: 0, cursor: 0 }));
  }

  /** How it stages from now on; undefined to hold. */
  set lead(value: Lead | undefined) {
    this.#lead = value;
    this.wake();
  }

  /** A cursor moved, or a staged blob was read. */
  wake(): void {
    this.#changed.resolve();
    this.#changed = deferred<void>();
  }

  /** Runs until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.wake());
    const worker = async (_: unknown, number: number): Promise<void> => {
      while (!signal.aborted) {
        const lead = number === 0 || this.#lead?.pace === "full" ? this.#lead : undefined;
        const blob = lead === undefined ? undefined : this.#choose();
        if (blob === "more") {
          await nextTurn();
          continue;
        }
        if (blob === undefined || lead === undefined) {
          await this.#changed.promise;
          continue;
        }
        this.#inFlight += blob.length;
        this.#underWay.add(blob.id);
        await this.#options.scheduler.stage(blob.id, lead.reason).catch(() => undefined);
        this.#underWay.delete(blob.id);
        this.#inFlight -= blob.length;
      }
    };
    await Promise.all(Array.from({ length: this.#options.atOnce }, worker));
  }

  /** The next blob to fetch, the disks in turns; undefined where the window is full or nothing is left; `more` to ask again. */
  #choose(): FileBlob | "more" | undefined {
    const { cache, tracker, windowBytes } = this.#options;
    let looks = LOOKS_AT_ONCE;
    for (const place of this.#places) looks = this.#follow(place, looks);
    for (let tried = 0; tried < this.#places.length; tried++) {
      const place = this.#places[this.#turn++ % this.#places.length];
      if (place === undefined) return undefined;
      for (; place.next < place.disk.file.blobCount; place.next++) {
        if (looks-- <= 0) return "more";
        const blob = place.disk.file.blob(place.next);
        if (blob.zero || this.#underWay.has(blob.id)) continue;
        if (tracker.leadBytes + this.#inFlight + blob.length > windowBytes) return undefined;
        if (cache.has(blob.id)) tracker.markLead(blob.id, blob.length);
        else {
          place.next++;
          return blob;
        }
      }
    }
    return undefined;
  }

  /** Goes where the cursor is, and lets go of what it has left behind. Gives back how many looks are left. */
  #follow(place: Place, looks: number): number {
    const { file, cursor } = place.disk;
    const position = Math.min(cursor.position, file.size);
    const at = position === file.size ? file.blobCount : file.indexAt(position);
    const wentBack = position < place.cursor;
    if (wentBack || at > place.next) place.next = at;
    if (wentBack) place.passed = Math.min(place.passed, at);
    place.cursor = position;
    const behind = Math.max(0, position - Math.min(PASSED_BYTES, this.#options.windowBytes / 2));
    const left = position === file.size ? file.blobCount : file.indexAt(behind);
    const until = Math.min(left, place.passed + Math.max(0, looks));
    const looked = Math.max(0, until - place.passed);
    for (; place.passed < until; place.passed++) {
      const blob = file.blob(place.passed);
      if (!blob.zero && this.#options.cache.has(blob.id)) this.#options.tracker.passed(blob.id, blob.length);
    }
    return looks - looked;
  }
}
