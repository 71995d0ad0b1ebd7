import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import { type Inode, inodeExtents } from "./ext-inode.ts";
import type { ExtLayout } from "./ext-layout.ts";
import type { Directory } from "./file-tree.ts";

/** Of one directory. */
const BYTES_LIMIT = 1024 * 1024;
const ENTRIES_LIMIT = 8192;

/** Names and inode numbers of a directory. Hashed ones too: their index looks like empty entries to whoever reads in order. */
export async function readDirectory(volume: Volume, layout: ExtLayout, inode: Inode): Promise<Directory> {
  const entries = new Map<string, number>();
  const extents: Extent[] = [];
  for await (const { offset, length, isMap } of inodeExtents(volume, layout, inode, BYTES_LIMIT)) {
    extents.push({ offset, length });
    for (let at = 0; !isMap && at < length; at += layout.blockBytes) {
      const block = await volume.read(offset + at, layout.blockBytes);
      if (block !== undefined) parseBlock(block, layout.hasFileTypes, entries);
    }
    if (entries.size >= ENTRIES_LIMIT) break;
  }
  entries.delete(".");
  entries.delete("..");
  return { entries, extents };
}

function parseBlock(block: Buffer, hasFileTypes: boolean, entries: Map<string, number>): void {
  let at = 0;
  while (at + 8 <= block.length && entries.size < ENTRIES_LIMIT) {
    const inode = block.readUInt32LE(at);
    const length = block.readUInt16LE(at + 4);
    const nameLength = hasFileTypes ? block.readUInt8(at + 6) : block.readUInt16LE(at + 6);
    if (length < 8 || at + length > block.length) return;
    if (inode !== 0 && nameLength > 0 && 8 + nameLength <= length) {
      entries.set(block.toString("utf8", at + 8, at + 8 + nameLength), inode);
    }
    at += length;
  }
}
