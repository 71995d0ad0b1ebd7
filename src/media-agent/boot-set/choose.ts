import type { BootProfile } from "../../api/boot-profile.ts";
import type { Clock } from "../../base/clock.ts";
import type { BlockSource } from "../../disk/block-device.ts";
import type { RepositoryFile } from "../../repository/repository-file.ts";
import { decodeDisk } from "../profile/text.ts";
import { worthStaging } from "../profile/worth-staging.ts";
import { blobsOf, type StagedBlob } from "./blobs.ts";
import { structureExtents } from "./structure.ts";

/** Without a profile, one cannot know: a large guess costs more than it brings. */
const GUESS_BYTES = 512 * 1024 * 1024;
/** A profile of which more is out of date leaves too much unknown: the disk's structure is looked at too. */
const OUTDATED_SHARE = 0.5;

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

/** What to stage before the launch: what earlier boots read, and what the disks' structure lets expect of those without a profile. */
export async function chooseBootSets(
  disks: readonly BootDisk[],
  profile: BootProfile | undefined,
  limits: BootSetLimits,
): Promise<BootSets> {
  const perDisk = limits.bytes / Math.max(1, disks.length);
  const chosen = await Promise.all(
    disks.map(async (disk) => {
      const learned = learnedExtents(disk, profile);
      const guessed = learned.isEnough ? [] : await structureExtents(disk.image, limits.clock);
      const limit = Math.min(perDisk, learned.isEnough ? perDisk : GUESS_BYTES);
      return {
        name: disk.name,
        isKnown: learned.isKnown,
        blobs: blobsOf(disk.file, [...learned.extents, ...guessed], limit),
      };
    }),
  );
  return {
    source: chosen.some(({ isKnown }) => isKnown) ? "Profile" : "Structure",
    sets: new Map(chosen.map(({ name, blobs }) => [name, blobs])),
  };
}

function learnedExtents({ name, file }: BootDisk, profile: BootProfile | undefined) {
  const text = profile?.disks.find((disk) => disk.name === name);
  if (text === undefined) return { extents: [], isKnown: false, isEnough: false };
  const { extents, valid, outdated } = worthStaging(decodeDisk(text, file.size), file);
  return { extents, isKnown: valid > 0 || outdated === 0, isEnough: outdated <= OUTDATED_SHARE * (valid + outdated) };
}
