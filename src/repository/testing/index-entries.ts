import type { BlobLocation } from "../blob-table.ts";
import type { IdTable } from "../id-table.ts";
import type { IndexEntries } from "../index-file.ts";

/** What a thread would have kept of an index file with these blobs: all of them, or those in a table. */
export function indexEntries(blobs: readonly (readonly [id: Buffer, at: BlobLocation])[], of?: IdTable): IndexEntries {
  const packs = [...new Set(blobs.map(([, { pack }]) => pack))];
  const kept = blobs.filter(([id]) => of === undefined || of.find(id) >= 0);
  const columns = kept.flatMap(([, { pack, offset, length, uncompressedLength }]) => {
    return [packs.indexOf(pack), offset, length, uncompressedLength];
  });
  return {
    packs: new Uint8Array(Buffer.from(packs.join(""), "hex")),
    ids: new Uint8Array(of === undefined ? Buffer.concat(kept.map(([id]) => id)) : Buffer.alloc(0)),
    numbers: Uint32Array.from(of === undefined ? [] : kept.map(([id]) => of.find(id))),
    columns: Uint32Array.from(columns),
  };
}
