import { errorCode } from "../../base/errors.ts";
import type { AllocatedExtent, BlockDevice, BlockSource, Extent, ReadClass } from "../block-device.ts";
import { DiskError } from "../errors.ts";
import { DataWriter } from "./data-writer.ts";
import type { OverlayFile } from "./files.ts";
import type { GroupCommit } from "./group-commit.ts";
import { type OpenedOverlay, type OverlayOptions, openOverlay, PARTIAL_LIMIT } from "./open-overlay.ts";
import { type JournalRecord, OP, PAGE, type PageMap, SECTOR } from "./page-map.ts";
import { PageRanges } from "./page-ranges.ts";
import { sectorMask, sourcesOf } from "./page-sources.ts";
import type { SpaceWait } from "./space-wait.ts";

const ZERO_PAGE = Buffer.alloc(PAGE);

/** A frozen set of dirty pages. */
export interface FrozenGeneration {
  readonly id: number;
  readonly bytes: number;
  /** No write can follow it. */
  readonly final: boolean;
}

/**
 * A writable disk over a read-only one. Specified in docs/overlay.md: states, durability order, what each crash leaves.
 */
export class Overlay implements BlockDevice {
  readonly size: number;
  readonly #base: BlockSource;
  readonly #map: PageMap;
  readonly #data: OverlayFile;
  readonly #commit: GroupCommit;
  readonly #ranges = new PageRanges();
  readonly #closing: AbortController;
  readonly #partialLimit: number;
  readonly #writer: DataWriter;
  readonly #space: SpaceWait;
  #refusing = false;
  /** Writes are being ended, with this error: see {@link endWrites}. */
  #ending: DiskError | undefined;

  private constructor({ base, partialLimit = PARTIAL_LIMIT }: OverlayOptions, opened: OpenedOverlay) {
    this.size = base.size;
    this.#base = base;
    this.#partialLimit = partialLimit;
    this.#map = opened.map;
    this.#data = opened.data;
    this.#commit = opened.commit;
    this.#writer = new DataWriter(opened, base.size, (record) => this.#record(record));
    this.#space = opened.space;
    this.#closing = opened.closing;
    this.#refusing = opened.map.sealed;
  }

  /**
   * Opens a disk's overlay, or makes one. On a full claim it opens all the same: reads are served, and what would have to be
   * durable waits for space.
   *
   * @throws DiskError OVERLAY_CORRUPT, OVERLAY_VERSION, OVERLAY_MISMATCH, STALE_EPOCH
   */
  static async open(options: OverlayOptions): Promise<Overlay> {
    return new Overlay(options, await openOverlay(options));
  }

  get sealed(): boolean {
    return this.#map.sealed;
  }

  /** The generation that is frozen, or 0. */
  get frozenId(): number {
    return this.#map.frozenId;
  }

  /** Whether writes wait for space. */
  get full(): boolean {
    return this.#space.full || this.stuck;
  }

  /** Whether a checkpoint waits for space: nothing becomes durable, and no disk can be sealed or moved, until the claim grows. */
  get stuck(): boolean {
    return this.#commit.full;
  }

  /** Bytes that the guest wrote and that are held here; zeros take none. */
  get overlayBytes(): number {
    return this.#map.full.count * PAGE + this.#map.partial.size * PAGE;
  }

  /** Bytes of the pages written since the last freeze. */
  get dirtyBytes(): number {
    return this.#map.dirty.count * PAGE;
  }

  async read(offset: number, length: number, readClass: ReadClass, into?: Buffer): Promise<Buffer> {
    this.#check(offset, length);
    if (length === 0) return Buffer.alloc(0);
    const parts = [...sourcesOf(this.#map, offset, length)];
    const [only] = parts;
    if (parts.length === 1 && only?.source === "base") return this.#base.read(offset, length, readClass, into);
    const merged = into?.subarray(0, length) ?? Buffer.allocUnsafe(length);
    await Promise.all(
      parts.map(async ({ extent, source }) => {
        const target = merged.subarray(extent.offset - offset, extent.offset - offset + extent.length);
        if (source === "zero") target.fill(0);
        else if (source === "data") await this.#data.read(target, extent.offset);
        else {
          const found = await this.#base.read(extent.offset, extent.length, readClass, target);
          if (found.buffer !== target.buffer || found.byteOffset !== target.byteOffset) found.copy(target);
        }
      }),
    );
    return merged;
  }

  extents(offset: number, length: number): AllocatedExtent[] {
    this.#check(offset, length);
    const merged: { offset: number; length: number; zero: boolean }[] = [];
    const add = (extent: AllocatedExtent): void => {
      const last = merged.at(-1);
      if (last !== undefined && last.zero === extent.zero) last.length += extent.length;
      else merged.push({ ...extent });
    };
    for (const { extent, source } of sourcesOf(this.#map, offset, length)) {
      if (source === "base") this.#base.extents(extent.offset, extent.length).forEach(add);
      else add({ ...extent, zero: source === "zero" });
    }
    return merged;
  }

  async write(
    offset: number,
    data: Uint8Array,
    options: { readonly durable: boolean; readonly signal?: AbortSignal },
  ): Promise<void> {
    this.#check(offset, data.length);
    const isDurable =
      data.length > 0 && (await this.#change(offset, data.length, data, options.durable, options.signal));
    if (options.durable && !isDurable) await this.flush();
  }

  async writeZeroes(offset: number, length: number, options: { readonly durable: boolean }): Promise<void> {
    this.#check(offset, length);
    if (length > 0) await this.#change(offset, length, undefined, false);
    if (options.durable) await this.flush();
  }

  async flush(): Promise<void> {
    await this.#commit.commit();
  }

  /**
   * After it resolves no write will ever be acknowledged, in this process or a later one, until {@link unseal}. What waits for space, or for
   * the backup's bytes around it, is refused with the others: on a full claim, moving the disk is the way out.
   */
  async seal(): Promise<void> {
    this.#refusing = true;
    this.#space.end(refusal(false));
    await this.#ranges.idle();
    if (!this.#map.sealed) this.#record({ op: OP.seal, a: 0, b: 0 });
    await this.flush();
  }

  /**
   * When it resolves, every write that has begun has taken effect or never will: what waits for space, or for the backup's bytes around it,
   * is given up with this error. What begins meanwhile is refused with it.
   */
  async endWrites(error: DiskError): Promise<void> {
    this.#ending = error;
    this.#space.end(error);
    await this.#ranges.idle();
    if (this.#ending !== error) return;
    this.#ending = undefined;
    if (!this.#refusing) this.#space.resume();
  }

  async unseal(): Promise<void> {
    if (this.#map.sealed) this.#record({ op: OP.unseal, a: 0, b: 0 });
    await this.flush();
    this.#space.resume();
    this.#refusing = false;
  }

  /** Makes the pages dirty now a generation of their own, or gives the one that is frozen already. */
  async freezeGeneration(): Promise<FrozenGeneration> {
    const map = this.#map;
    if (map.frozenId === 0) this.#record({ op: OP.freeze, a: map.lastId + 1, b: 0 });
    const frozen = { id: map.frozenId, bytes: map.frozen.count * PAGE, final: map.frozenFinal };
    await this.flush();
    return frozen;
  }

  /**
   * Resolves when everything that any read has given so far is durable, or its page is marked durably. Who has copied it elsewhere waits
   * for this before saying so, or a crash could bring back old bytes and leave them unmarked. Writes under way, which may wait for
   * space, are not waited for: the mark of what they write over was made before the bytes could be read.
   */
  async settle(): Promise<void> {
    await this.flush();
  }

  /**
   * Forgets a frozen generation: what it names is durable elsewhere. Durable when it resolves, and so is what {@link settle} is about.
   * One that was dropped before is no error.
   *
   * @throws DiskError STALE_GENERATION where another one is frozen, or none ever had this id
   */
  async dropGeneration(id: number): Promise<void> {
    const map = this.#map;
    if (id > map.lastId || id < 1 || (map.frozenId !== 0 && map.frozenId !== id)) {
      throw new DiskError("STALE_GENERATION", `generation ${id} is not the one that is frozen (${map.frozenId})`);
    }
    if (map.frozenId === id) {
      // In one step: a write that begins later finds its pages unmarked, one that has begun may have relied on this generation.
      for (const { first, last } of this.#ranges.held) this.#mark(first, last, (page) => !map.frozen.has(page));
      this.#record({ op: OP.drop, a: id, b: 0 });
    }
    await this.flush();
  }

  /** The frozen generation's pages as extents within `[offset, offset + length)`, cut at the disk's end. */
  *frozenExtents(offset: number, length: number): Generator<Extent> {
    const end = Math.min(offset + length, this.size);
    for (const run of this.#map.frozen.runs(Math.floor(offset / PAGE), Math.ceil(end / PAGE))) {
      const from = Math.max(offset, run.offset * PAGE);
      const to = Math.min(end, (run.offset + run.length) * PAGE);
      yield { offset: from, length: to - from };
    }
  }

  /** Makes everything durable for which there is space, and lets go of the files. What waits for space is not acknowledged. */
  async close(): Promise<void> {
    this.#refusing = true;
    this.#closing.abort(new DiskError("DISK_CLOSED", "the overlay was closed"));
    await this.#ranges.idle();
    try {
      await this.#commit.close();
    } catch (error) {
      if (errorCode(error) !== "DISK_CLOSED") throw error;
    } finally {
      await this.#data.close();
    }
  }

  /**
   * @param data undefined means zeros
   * @param durable whether it may be made durable at once, where it is one piece and nobody else commits
   * @returns whether it is durable
   */
  async #change(
    offset: number,
    length: number,
    data: Uint8Array | undefined,
    durable: boolean,
    signal?: AbortSignal,
  ): Promise<boolean> {
    this.#commit.throwIfFailed();
    const first = Math.floor(offset / PAGE);
    const last = Math.floor((offset + length - 1) / PAGE);
    this.#throwIfRefused();
    const release = await this.#ranges.hold(first, last);
    let isMarked = false;
    try {
      this.#commit.throwIfFailed();
      // One that waited for another that was given up would wait for space in its place.
      this.#throwIfRefused();
      signal?.throwIfAborted();
      await this.#markAhead(first, last);
      isMarked = true;
      let page = first;
      let isDurable = false;
      while (page <= last) {
        const from = Math.max(offset, page * PAGE);
        const isWhole = from === page * PAGE && (offset + length >= (page + 1) * PAGE || offset + length === this.size);
        if (!isWhole) {
          const to = Math.min(offset + length, (page + 1) * PAGE);
          const part = data?.subarray(from - offset, to - offset);
          isDurable = await this.#changePart(page, from, to, part, durable && first === last, signal);
          page++;
          continue;
        }
        const end = this.#wholeRun(page, last, offset, length, data);
        const isAll = page === first && end > last;
        isDurable = await this.#changeWhole(page, end, offset, length, data, durable && isAll, signal);
        page = end;
      }
      return isDurable;
    } catch (error) {
      // Some of it may have been written in place. Before, nothing was: a mark that is not durable would keep the next from making one.
      if (isMarked) this.#mark(first, last, () => false);
      throw error;
    } finally {
      release();
    }
  }

  #throwIfRefused(): void {
    if (this.#refusing) throw refusal(this.#closing.signal.aborted);
    if (this.#ending !== undefined) throw this.#ending;
  }

  /**
   * What is written in place over bytes that count already can be there after a crash although nobody was told so. That such a page
   * has changed must not be forgotten then: its mark is durable before. The frozen generation's pages have one.
   */
  async #markAhead(first: number, last: number): Promise<void> {
    if (this.#mark(first, last, (page) => this.#map.frozen.has(page))) await this.flush();
  }

  /** Makes pages dirty that have sectors in the data file. Gives back whether any became so. */
  #mark(first: number, last: number, isExcepted: (page: number) => boolean): boolean {
    const map = this.#map;
    let isMarked = false;
    for (let page = map.dirty.next(false, first, last + 1); page <= last; page++) {
      const mask = map.mask(page);
      if (mask === 0 || map.dirty.has(page) || isExcepted(page)) continue;
      this.#record({ op: OP.partial, a: page, b: mask });
      isMarked = true;
    }
    return isMarked;
  }

  /** The page after the run of whole pages from `page` on that are all zeros, or all not. */
  #wholeRun(page: number, last: number, offset: number, length: number, data: Uint8Array | undefined): number {
    const isWhole = (index: number): boolean =>
      index <= last && (offset + length >= (index + 1) * PAGE || offset + length === this.size);
    const zero = this.#isZero(page, offset, data);
    let end = page + 1;
    while (isWhole(end) && this.#isZero(end, offset, data) === zero) end++;
    return end;
  }

  #isZero(page: number, offset: number, data: Uint8Array | undefined): boolean {
    if (data === undefined) return true;
    const piece = data.subarray(page * PAGE - offset, page * PAGE - offset + PAGE);
    return ZERO_PAGE.compare(piece, 0, piece.length, 0, piece.length) === 0;
  }

  async #changeWhole(
    from: number,
    to: number,
    offset: number,
    length: number,
    data: Uint8Array | undefined,
    durable: boolean,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    if (this.#isZero(from, offset, data)) {
      // It may have waited for its mark, or for what came before it in the same write.
      signal?.throwIfAborted();
      this.#record({ op: OP.zero, a: from, b: to - from });
      return false;
    }
    const end = Math.min(to * PAGE, offset + length);
    const bytes = (data as Uint8Array).subarray(from * PAGE - offset, end - offset);
    const record: JournalRecord = { op: OP.full, a: from, b: to - from };
    return this.#writer.store({ bytes, offset: from * PAGE, record, durable, signal });
  }

  /** A change to bytes `[from, to)` within one page. */
  async #changePart(
    page: number,
    from: number,
    to: number,
    data: Uint8Array | undefined,
    durable: boolean,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const bytes = data ?? Buffer.alloc(to - from);
    const pageEnd = Math.min((page + 1) * PAGE, this.size);
    // A zero page has no sectors in the data file: write all of it. Otherwise whole sectors are enough, while there are few such pages.
    const map = this.#map;
    const isWhole = map.zero.has(page) || (map.mask(page) === 0 && map.partial.size >= this.#partialLimit);
    const start = isWhole ? page * PAGE : Math.floor(from / SECTOR) * SECTOR;
    const end = isWhole ? pageEnd : Math.min(pageEnd, Math.ceil(to / SECTOR) * SECTOR);
    const isAligned = start === from && end === to;
    const content = isAligned ? bytes : Buffer.from(await this.#readAround(start, end - start));
    if (!isAligned) content.set(bytes, from - start);
    const record: JournalRecord = isWhole
      ? { op: OP.full, a: page, b: 1 }
      : { op: OP.partial, a: page, b: sectorMask(page, start, end, this.size) };
    return this.#writer.store({ bytes: content, offset: start, record, durable, signal });
  }

  /** What a write needs of the bytes around it. Given up with what waits for space: it may wait for the repository, which may be away. */
  async #readAround(offset: number, length: number): Promise<Buffer> {
    const around = await this.#space.orGiveUp(() => this.read(offset, length, "guest"));
    // After a sync that failed they may be older than what was written there.
    this.#commit.throwIfFailed();
    return around;
  }

  #record(record: JournalRecord): void {
    if (!this.#map.changes(record)) return;
    this.#map.apply(record);
    this.#commit.add(record);
  }

  #check(offset: number, length: number): void {
    const isWithin =
      Number.isInteger(offset) &&
      Number.isInteger(length) &&
      offset >= 0 &&
      length >= 0 &&
      offset + length <= this.size;
    if (!isWithin)
      throw new DiskError("OUT_OF_RANGE", `[${offset}, +${length}) is not within a disk of ${this.size} bytes`);
  }
}

function refusal(isClosing: boolean): DiskError {
  return isClosing
    ? new DiskError("DISK_CLOSED", "the disk is being closed")
    : new DiskError("DISK_SEALED", "the disk is sealed: it has moved, or is about to", {
        hint: "Use the VM's new volume.",
      });
}
