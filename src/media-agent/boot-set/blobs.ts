import { setImmediate as nextTurn } from "node:timers/promises";
import type { Extent } from "../../disk/block-device.ts";
import type { FileBlob } from "../../repository/repository-file.ts";

/** Extents after which others get their turn: of one disk there may be hundreds of thousands. */
const EXTENTS_AT_ONCE = 256;

/** A blob that is to be staged. */
export interface StagedBlob {
  readonly id: string;
  readonly length: number;
}

/** The blobs that hold the extents, in their order, each once; zero blobs need no staging. */
export async function blobsOf(
  file: { blobsIn(offset: number, length: number): Iterable<FileBlob> | Promise<Iterable<FileBlob>> },
  extents: Iterable<Extent>,
  limitBytes: number,
): Promise<StagedBlob[]> {
  const chosen = new Map<string, StagedBlob>();
  let bytes = 0;
  let count = 0;
  for (const { offset, length } of extents) {
    if (++count % EXTENTS_AT_ONCE === 0) await nextTurn();
    for (const { id, length: blobLength, zero } of await file.blobsIn(offset, length)) {
      if (zero || chosen.has(id)) continue;
      bytes += blobLength;
      if (bytes > limitBytes) return [...chosen.values()];
      chosen.set(id, { id, length: blobLength });
    }
  }
  return [...chosen.values()];
}
