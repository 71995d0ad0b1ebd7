import type { BootProfile } from "../api/boot-profile.ts";
import { Bitmap } from "../disk/bitmap.ts";
import type { Extent } from "../disk/block-device.ts";
import { type BlobList, type LearnedDisk, PROFILE_PAGE } from "./profile/learned-disk.ts";
import { mergeBoot } from "./profile/merge.ts";
import { decodeDisk, encodeDisks } from "./profile/text.ts";

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

/** A disk whose reads are recorded. */
export interface RecordedDisk {
  readonly name: string;
  readonly file: BlobList;
  /** Finds out which blobs hold the extents: before that, `file` may not know them. */
  learn(extents: Iterable<Extent>): Promise<void>;
}

/** What the guest reads from the backup from power-on until it is ready. */
export class BootRecorder {
  readonly #disks = new Map<string, { readonly disk: RecordedDisk; readonly reads: FirstReads }>();

  constructor(disks: readonly RecordedDisk[]) {
    for (const disk of disks) this.#disks.set(disk.name, { disk, reads: new FirstReads(disk.file.size) });
  }

  read(disk: string, offset: number, length: number): void {
    this.#disks.get(disk)?.reads.add(offset, length);
  }

  /** The profile of this boot, merged with an earlier one, whose disks are known by their names. */
  async profile(earlier: BootProfile | undefined): Promise<BootProfile> {
    const disks = [...this.#disks];
    const learned: LearnedDisk[] = [];
    for (const [name, { disk, reads }] of disks) {
      const { file } = disk;
      const before = decodeDisk(earlier?.disks.find((known) => known.name === name) ?? { extents: "" }, file.size);
      await disk.learn([...before.runs, ...reads.extents]);
      learned.push(await mergeBoot(before, reads.extents, file));
    }
    const texts = encodeDisks(learned);
    return {
      boots: (earlier?.boots ?? 0) + 1,
      disks: disks.map(([name, { disk }], index) => ({ name, size: disk.file.size, extents: "", ...texts[index] })),
    };
  }
}
