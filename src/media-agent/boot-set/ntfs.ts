import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import { findFiles } from "./file-tree.ts";
import { readNtfsLayout } from "./ntfs-layout.ts";
import { NtfsTree } from "./ntfs-tree.ts";
import { WINDOWS_LOOKS } from "./windows-looks.ts";

const MIB = 1024 * 1024;
const BOOT_BYTES = 8192;
/** What setup wrote first is what boots: its records come first. */
const TABLE_BYTES = 32 * MIB;
const MIRRORED_RECORDS = 4;
/** Files that mounting reads, by their records, and how much of each. */
const SYSTEM_FILES: readonly (readonly [number, number])[] = [
  [2, MIB], // $LogFile: its restart pages
  [4, MIB], // $AttrDef
  [6, 16 * MIB], // $Bitmap
  [9, 8 * MIB], // $Secure
  [10, MIB], // $UpCase
];

/** An NTFS file system: boot sectors, the master file table's beginning, what mounting reads, and what a Windows boot looks for. */
export async function* ntfsBootSet(volume: Volume): AsyncGenerator<Extent> {
  const layout = await readNtfsLayout(volume);
  if (layout === undefined) return;
  yield { offset: 0, length: Math.min(BOOT_BYTES, layout.size) };
  yield { offset: layout.mirror, length: MIRRORED_RECORDS * layout.recordBytes };
  // The copy of the boot sector lies behind the file system.
  yield { offset: layout.size, length: Math.min(4096, Math.max(0, volume.size - layout.size)) };
  const tree = await NtfsTree.open(volume, layout);
  if (tree === undefined) return;
  let left = TABLE_BYTES;
  for (const { offset, length } of tree.table) {
    if (left <= 0) break;
    yield { offset, length: Math.min(length, left) };
    left -= length;
  }
  for (const [number, limit] of SYSTEM_FILES) {
    const file = await tree.node(number);
    let rest = limit;
    for (const { offset, length } of file?.attributes.flatMap(({ extents }) => extents) ?? []) {
      if (rest <= 0) break;
      yield { offset, length: Math.min(length, rest) };
      rest -= length;
    }
  }
  yield* findFiles(tree, WINDOWS_LOOKS);
}
