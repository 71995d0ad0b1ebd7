import type { BootProfile } from "../../api/boot-profile.ts";
import type { Clock } from "../../base/clock.ts";
import type { BlockSource } from "../../disk/block-device.ts";
import type { RepositoryFile } from "../../repository/repository-file.ts";
import { decodeExtents } from "../page-extents.ts";
import { blobsOf, type StagedBlob } from "./blobs.ts";
import { structureExtents } from "./structure.ts";

/** Without a profile, one cannot know: a large guess costs more than it brings. */
const GUESS_BYTES = 512 * 1024 * 1024;

export interface BootSetLimits {
  /** Of all disks together. */
  readonly bytes: number;
  readonly clock: Clock;
}

export interface BootSets {
  readonly source: "Profile" | "Structure";
  /** By disk. */
  readonly sets: ReadonlyMap<string, readonly StagedBlob[]>;
}

interface BootDisk {
  readonly name: string;
  readonly image: BlockSource;
  readonly file: RepositoryFile;
}

/** What to stage before the launch: what earlier boots read, or what the disks' structure lets expect. */
export async function chooseBootSets(
  disks: readonly BootDisk[],
  profile: BootProfile | undefined,
  limits: BootSetLimits,
): Promise<BootSets> {
  const perDisk = limits.bytes / Math.max(1, disks.length);
  const sets = new Map<string, readonly StagedBlob[]>();
  for (const { name, file, image } of disks) {
    const learned = profile?.disks.find((disk) => disk.name === name);
    if (learned !== undefined) sets.set(name, blobsOf(file, decodeExtents(learned.extents, file.size), perDisk));
    else sets.set(name, blobsOf(file, await structureExtents(image, limits.clock), Math.min(perDisk, GUESS_BYTES)));
  }
  const known = profile !== undefined && disks.some(({ name }) => profile.disks.some((disk) => disk.name === name));
  return { source: known ? "Profile" : "Structure", sets };
}
