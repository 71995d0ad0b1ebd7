import type { BootProfile } from "../../api/boot-profile.ts";
import type { Clock } from "../../base/clock.ts";
import type { Extent } from "../../disk/block-device.ts";
import type { ReadImage } from "../format-image.ts";
import { decodeDisk } from "../profile/text.ts";
import { worthStaging } from "../profile/worth-staging.ts";
import { blobsOf, type StagedBlob } from "./blobs.ts";
import { structureExtents } from "./structure.ts";

/** Without a profile, one cannot know: a large guess costs more than it brings. */
const GUESS_BYTES = 512 * 1024 * 1024;
/** A profile of which more is out of date leaves too much unknown: the disk's structure is looked at too. */
const OUTDATED_SHARE = 0.5;

/** What is to be staged of each disk, in order. */
export type BootSets = ReadonlyMap<string, readonly StagedBlob[]>;

interface BootDisk extends Pick<ReadImage, "image" | "file" | "learn"> {
  readonly name: string;
}

/** A disk of which no profile says enough, and what one says. */
interface UnknownDisk {
  readonly disk: BootDisk;
  readonly learned: readonly Extent[];
}

/** What a profile says, without a read of the disks, except for tables of those that are not raw. */
export interface LearnedSets {
  /** `Profile` where it says anything that still holds. */
  readonly source: "Profile" | "Structure";
  readonly sets: BootSets;
  /** Disks whose structure is to be looked at as well: {@link guessBootSets}. */
  readonly unknown: readonly UnknownDisk[];
}

/** What earlier boots read. @param bytes of all disks together */
export async function learnedBootSets(
  disks: readonly BootDisk[],
  profile: BootProfile | undefined,
  bytes: number,
): Promise<LearnedSets> {
  const sets = new Map<string, readonly StagedBlob[]>();
  const unknown: UnknownDisk[] = [];
  let source: LearnedSets["source"] = "Structure";
  for (const disk of disks) {
    const learned = await learnedExtents(disk, profile);
    if (learned.isKnown) source = "Profile";
    if (!learned.isEnough) unknown.push({ disk, learned: learned.extents });
    sets.set(disk.name, await blobsOf(disk.file, learned.extents, bytes / disks.length));
  }
  return { source, sets, unknown };
}

/**
 * What the structure of disks lets expect, after what was learned of them. Reads the disks, all at once.
 *
 * @param perDisk bytes
 */
export async function guessBootSets(unknown: readonly UnknownDisk[], perDisk: number, clock: Clock): Promise<BootSets> {
  const chosen = await Promise.all(
    unknown.map(async ({ disk, learned }): Promise<[string, readonly StagedBlob[]]> => {
      const guessed = await structureExtents(disk.image, clock);
      return [disk.name, await blobsOf(disk.file, [...learned, ...guessed], Math.min(perDisk, GUESS_BYTES))];
    }),
  );
  return new Map(chosen);
}

async function learnedExtents({ name, file, learn }: BootDisk, profile: BootProfile | undefined) {
  const text = profile?.disks.find((disk) => disk.name === name);
  if (text === undefined) return { extents: [], isKnown: false, isEnough: false };
  const known = decodeDisk(text, file.size);
  await learn(known.runs);
  const { extents, valid, outdated } = await worthStaging(known, file);
  return { extents, isKnown: valid > 0 || outdated === 0, isEnough: outdated <= OUTDATED_SHARE * (valid + outdated) };
}
