import type { ReadClass } from "../disk/block-device.ts";
import type { ReadReason } from "./read-queue.ts";

interface Track {
  /** Bytes. */
  readonly length: number;
  guest: boolean;
  relocation: boolean;
  /** Staged for a set whose reader has not come yet. */
  staged: "boot" | "lead" | undefined;
}

interface StagedBytes {
  boot: number;
  lead: number;
}

/** Ranks of cache entries, the first to go first. */
const RANK = { relocated: 0, relocatedAndRead: 1, unknown: 2, read: 3, lead: 4, boot: 5 } as const;

/**
 * Who has read which blob, so that the cache keeps what is still needed. Knows about blobs that the cache holds, and about few
 * others: bounded by the cache's size.
 */
export class BlobTracker {
  readonly #tracks = new Map<string, Track>();
  readonly #unread = { boot: 0, lead: 0 };
  readonly #read = { boot: 0, lead: 0 };
  /** Set once the guest is up: what it did not read of its boot set it does not need. */
  bootFinished = false;

  /** Bytes that were staged for the relocation and that it has not read yet. */
  get leadBytes(): number {
    return this.#unread.lead;
  }

  /** Bytes that were staged for each set and not read yet, and those that were read by whom they were staged for. */
  get staged(): { readonly unread: Readonly<StagedBytes>; readonly read: Readonly<StagedBytes> } {
    return { unread: this.#unread, read: this.#read };
  }

  /** A blob came into the cache. */
  stored(id: string, length: number, reason: ReadReason): void {
    const track = this.#track(id, length);
    if (reason === "boot") this.#setStaged(track, "boot");
    else if (reason === "lead" || reason === "ahead") this.markLead(id, length);
    else if (reason !== "readahead" && reason !== "hydrate" && reason !== "peer") this.read(id, length, reason);
  }

  /** A blob that is in the cache lies ahead of the relocation. */
  markLead(id: string, length: number): void {
    const track = this.#track(id, length);
    if (track.staged === undefined) this.#setStaged(track, "lead");
  }

  read(id: string, length: number, readClass: ReadClass): void {
    if (readClass === "staging") return;
    const track = this.#track(id, length);
    track[readClass] = true;
    if (track.staged === "boot" || (track.staged === "lead" && readClass === "relocation")) {
      this.#read[track.staged] += length;
      this.#setStaged(track, undefined);
    }
  }

  /** A blob that the relocation has left behind, whoever read it: in an earlier process, or from the overlay. */
  passed(id: string, length: number): void {
    const track = this.#track(id, length);
    if (track.staged === "boot") return;
    track.relocation = true;
    this.#setStaged(track, undefined);
  }

  /** Lower goes first when the cache needs room. */
  rank(id: string): number {
    const track = this.#tracks.get(id);
    if (track === undefined) return RANK.unknown;
    if (track.staged === "boot" && !this.bootFinished) return RANK.boot;
    if (track.staged === "lead") return RANK.lead;
    if (track.relocation) return track.guest ? RANK.relocatedAndRead : RANK.relocated;
    return track.guest ? RANK.read : RANK.unknown;
  }

  /** Forgets blobs that the cache does not hold, where there are many more than it holds. */
  prune(cache: { readonly size: number; has(id: string): boolean }): void {
    if (this.#tracks.size <= 2 * cache.size + 1024) return;
    for (const [id, track] of this.#tracks) {
      if (cache.has(id)) continue;
      this.#setStaged(track, undefined);
      this.#tracks.delete(id);
    }
  }

  #track(id: string, length: number): Track {
    let track = this.#tracks.get(id);
    if (track === undefined) {
      track = { length, guest: false, relocation: false, staged: undefined };
      this.#tracks.set(id, track);
    }
    return track;
  }

  #setStaged(track: Track, staged: Track["staged"]): void {
    if (track.staged !== undefined) this.#unread[track.staged] -= track.length;
    if (staged !== undefined) this.#unread[staged] += track.length;
    track.staged = staged;
  }
}
