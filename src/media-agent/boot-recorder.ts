import type { BootProfile } from "../api/boot-profile.ts";
import { Bitmap } from "../disk/bitmap.ts";
import type { Extent } from "../disk/block-device.ts";
import { decodeExtents, encodeExtents, PROFILE_PAGE } from "./page-extents.ts";

/** Distinct runs that are recorded for one disk: more do not fit into a profile. */
const RUN_LIMIT = 65_536;

/** The pages of one disk in the order in which they were first read. */
export class FirstReads {
  readonly size: number;
  readonly #seen: Bitmap;
  readonly #runs: { offset: number; length: number }[] = [];

  constructor(size: number) {
    this.size = size;
    this.#seen = new Bitmap(Math.ceil(size / PROFILE_PAGE));
  }

  add(offset: number, length: number): void {
    const end = Math.min(this.#seen.length, Math.ceil((offset + length) / PROFILE_PAGE));
    for (let page = Math.floor(offset / PROFILE_PAGE); page < end; page++) {
      if (this.#seen.has(page)) continue;
      const last = this.#runs.at(-1);
      const isNext = last !== undefined && last.offset + last.length === page * PROFILE_PAGE;
      if (!isNext && this.#runs.length === RUN_LIMIT) return;
      this.#seen.add(page);
      if (isNext) last.length += PROFILE_PAGE;
      else this.#runs.push({ offset: page * PROFILE_PAGE, length: PROFILE_PAGE });
    }
  }

  /** Whole pages, so the last one may reach beyond the disk's end. */
  get extents(): readonly Extent[] {
    return this.#runs;
  }
}

/** What the guest reads from the backup from power-on until it is ready. */
export class BootRecorder {
  readonly #disks = new Map<string, FirstReads>();

  constructor(disks: readonly { readonly name: string; readonly size: number }[]) {
    for (const { name, size } of disks) this.#disks.set(name, new FirstReads(size));
  }

  read(disk: string, offset: number, length: number): void {
    this.#disks.get(disk)?.add(offset, length);
  }

  /**
   * The profile of this boot, merged with an earlier one: what was read now comes first and in its order; what only earlier boots
   * read follows, as far as there is room. An earlier disk of another size counts nothing.
   */
  profile(earlier: BootProfile | undefined): BootProfile {
    const disks = [...this.#disks].map(([name, reads]) => {
      const merged = new FirstReads(reads.size);
      for (const { offset, length } of reads.extents) merged.add(offset, length);
      const before = earlier?.disks.find((disk) => disk.name === name && disk.size === reads.size);
      for (const { offset, length } of decodeExtents(before?.extents ?? "", reads.size)) merged.add(offset, length);
      return { name, size: reads.size, extents: encodeExtents(merged.extents) };
    });
    return { boots: (earlier?.boots ?? 0) + 1, disks };
  }
}
