import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../base/clock.ts";
import { type Deferred, deferred } from "../base/deferred.ts";
import { Bitmap } from "../disk/bitmap.ts";
import type { FileBlob } from "../repository/repository-file.ts";
import type { BlobSequence } from "./disk-blobs.ts";

/** Blobs looked at before others get their turn; about a millisecond. */
const LOOKS_AT_ONCE = 500;
/** Between two looks at everything: what was evicted meanwhile is fetched again where there is room. */
const PAUSE_MS = 60_000;
/** How long a blob that could not be read is left alone: somebody may bring its pack back. */
const LOST_MS = 10 * 60_000;
/** Of a blob's length, what its place in the cache takes at most. */
const IN_CACHE = 1.002;
const BLOCK = 4096;
/** Blobs at once that were cached before, and are made durable. */
const SYNCS_AT_ONCE = 4;

/** How much of what the disks need is safe, in bytes. A blob that is at several places of the disks counts at each. */
export interface Hydration {
  /** Everything but zeros. */
  readonly needed: number;
  /** Of them, what is in the cache, and outlasts a power failure there. */
  readonly safe: number;
  /** Of them, what the repository cannot give any more. */
  readonly lost: number;
  /** Nothing more is going to be fetched. */
  readonly done: boolean;
  /** The cache has no room for all that is not lost. */
  readonly cacheFull: boolean;
}

/** A file of a disk, and how far its relocation has come in it. */
export interface HydratedPart {
  readonly file: BlobSequence;
  /** Bytes. */
  readonly cursor: { readonly position: number };
}

export interface HydratorOptions {
  readonly parts: readonly HydratedPart[];
  readonly cache: {
    has(id: string): boolean;
    isDurable(id: string): boolean;
    /** Whether it is there, and outlasts a power failure; never rejects. */
    makeDurable(id: string): Promise<boolean>;
    readonly free: number;
  };
  readonly scheduler: { stage(id: string, reason: "hydrate"): Promise<void> };
  /** Whether a blob that was not had may be later: then it is not lost. */
  readonly isTransient: (error: unknown) => boolean;
  readonly clock: Clock;
  /** Blobs asked for at once. */
  readonly atOnce: number;
  /** Told each time that nothing more is going to be fetched. */
  readonly onDone?: () => void;
}

interface Counts {
  needed: number;
  safe: number;
  lost: number;
  cacheFull: boolean;
}

/** A part, and what is known of the blobs at its places. */
interface Place extends HydratedPart {
  safe: Bitmap;
  lost: Bitmap;
}

interface Found {
  readonly place: Place;
  readonly index: number;
  readonly blob: FileBlob;
}

/**
 * Brings everything that the disks need into the cache while the backup may vanish at any time: what relocation has yet to copy
 * comes first. It never puts anything out of the cache: what would have to go is needed just as much. A blob counts as safe only once
 * its entry is durable: the cache may be the only copy.
 */
export class Hydrator {
  readonly #options: HydratorOptions;
  readonly #places: Place[];
  #counts: Counts = { needed: 0, safe: 0, lost: 0, cacheFull: false };
  #isActive = false;
  #isDone = false;
  #isStale = false;
  /** Something was not had that may be later. */
  #isPutOff = false;
  /** Bytes that are asked for and not in the cache yet. */
  #inFlight = 0;
  #landed: Deferred<void> = deferred();
  #triedLostAt = Number.NEGATIVE_INFINITY;
  #wake = new AbortController();

  constructor(options: HydratorOptions) {
    this.#options = options;
    this.#places = options.parts.map(({ file, cursor }) => ({ file, cursor, safe: empty(file), lost: empty(file) }));
  }

  /** Undefined while nothing has to be saved. */
  get progress(): Hydration | undefined {
    return this.#isActive ? { ...this.#counts, done: this.#isDone } : undefined;
  }

  /** Whether the backup may vanish. What is cached stays where that has passed. */
  set active(value: boolean) {
    if (value === this.#isActive) return;
    this.#isActive = value;
    this.#isStale = true;
    this.#isDone = false;
    this.#wake.abort();
  }

  /** Runs until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#wake = new AbortController();
      this.#isStale = false;
      if (this.#isActive) {
        await this.#count(signal);
        this.#isPutOff = false;
        await this.#fetchAll(signal);
        this.#isDone = !signal.aborted && !this.#isStale && !this.#isPutOff && this.#isActive;
        if (this.#isDone) this.#options.onDone?.();
      }
      const woken = AbortSignal.any([signal, this.#wake.signal]);
      const pause = this.#isActive ? PAUSE_MS : Number.MAX_SAFE_INTEGER;
      if (!this.#isStale) await sleep(this.#options.clock, pause, woken);
    }
  }

  /** Looks at everything, so that the truth is told before the first blob is fetched. */
  async #count(signal: AbortSignal): Promise<void> {
    const { cache, clock } = this.#options;
    const counts: Counts = { needed: 0, safe: 0, lost: 0, cacheFull: this.#counts.cacheFull };
    const isLostForgotten = clock.monotonic() - this.#triedLostAt >= LOST_MS;
    if (isLostForgotten) this.#triedLostAt = clock.monotonic();
    for (const place of this.#places) {
      const { file } = place;
      place.safe = empty(file);
      if (isLostForgotten) place.lost = empty(file);
      for (let index = 0; index < place.safe.length; index++) {
        if (index % LOOKS_AT_ONCE === LOOKS_AT_ONCE - 1) await nextTurn();
        if (signal.aborted) return;
        const blob = file.blob(index);
        if (blob.zero) continue;
        counts.needed += blob.length;
        if (cache.has(blob.id)) place.lost.delete(index);
        if (cache.isDurable(blob.id)) {
          place.safe.add(index);
          counts.safe += blob.length;
        } else if (place.lost.has(index)) counts.lost += blob.length;
      }
    }
    this.#counts = counts;
  }

  async #fetchAll(signal: AbortSignal): Promise<void> {
    const { cache, atOnce } = this.#options;
    let isFull = false;
    const fetch = async (found: Found): Promise<void> => {
      if (!(await this.#fetch(found))) isFull = true;
    };
    const secure = async (found: Found): Promise<void> => {
      await this.#secure(found);
      // It was damaged.
      if (!cache.has(found.blob.id)) await fetch(found);
    };
    const each = async (isWanted: (id: string) => boolean, workers: number, work: typeof fetch): Promise<void> => {
      // The generator's requests queue up, so that workers may share it.
      const all = this.#unsafe(isWanted);
      const worker = async (): Promise<void> => {
        for await (const found of all) {
          if (signal.aborted || !this.#isActive) return;
          await work(found);
        }
      };
      await Promise.all(Array.from({ length: workers }, worker));
    };
    const secureCached = (): Promise<void> => each((id) => cache.has(id), SYNCS_AT_ONCE, secure);
    // Side by side: what is missing may be gone at any moment, what is cached only when the power fails.
    await Promise.all([each((id) => !cache.has(id), atOnce, fetch), secureCached()]);
    // Where a blob is at several places, those that came after it was fetched for the first were passed by.
    await secureCached();
    if (!signal.aborted) this.#counts.cacheFull = isFull;
  }

  /** What is not safe, the first thing first that relocation has yet to copy; then what it left behind, which only the guest reads. */
  async *#unsafe(isWanted: (id: string) => boolean): AsyncGenerator<Found> {
    let looks = 0;
    for (const part of ["ahead", "behind"] as const) {
      for (const place of this.#places) {
        const { file, cursor } = place;
        const count = file.blobCount;
        const border = cursor.position >= file.size ? count : file.indexAt(cursor.position);
        const [from, to] = part === "ahead" ? [border, count] : [0, border];
        for (let index = from; index < to; index++) {
          if (++looks % LOOKS_AT_ONCE === 0) await nextTurn();
          if (place.safe.has(index) || place.lost.has(index)) continue;
          const blob = file.blob(index);
          if (!blob.zero && isWanted(blob.id)) yield { place, index, blob };
        }
      }
    }
  }

  /** Gives back whether there was room. */
  async #fetch(found: Found): Promise<boolean> {
    const { place, index, blob } = found;
    const { cache, scheduler } = this.#options;
    if (!cache.has(blob.id)) {
      const bytes = Math.ceil(blob.length * IN_CACHE) + BLOCK;
      // What is under way takes room that the cache does not know of yet, or counts already: that is known when it has landed.
      while (this.#inFlight + bytes > cache.free) {
        if (this.#inFlight === 0) return false;
        await this.#landed.promise;
      }
      this.#inFlight += bytes;
      const failure = await scheduler.stage(blob.id, "hydrate").then(
        () => undefined,
        (error: unknown) => ({ isTransient: this.#options.isTransient(error) }),
      );
      this.#inFlight -= bytes;
      this.#landed.resolve();
      this.#landed = deferred();
      if (failure?.isTransient === true) this.#isPutOff = true;
      else if (failure !== undefined && place.lost.add(index)) this.#counts.lost += blob.length;
    }
    await this.#secure(found);
    return true;
  }

  /** Counts a blob once it is durable, not before: what was told to be safe outlasts a power failure. */
  async #secure({ place, index, blob }: Found): Promise<void> {
    const isSafe = await this.#options.cache.makeDurable(blob.id);
    if (isSafe && place.safe.add(index)) this.#counts.safe += blob.length;
  }
}

function empty({ blobCount }: BlobSequence): Bitmap {
  return new Bitmap(blobCount);
}

async function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  await clock.sleep(Math.min(ms, 2 ** 31 - 1), signal).catch(() => undefined);
}
