import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import type { Directory } from "./file-tree.ts";
import { isLocal, type XfsInode, xfsExtents } from "./xfs-inode.ts";
import type { XfsLayout } from "./xfs-layout.ts";

/** Of one directory. */
const BYTES_LIMIT = 1024 * 1024;
const ENTRIES_LIMIT = 8192;
/** Of a directory's bytes, names lie below; indexes of them above. */
const NAMES_END = 2 ** 35;
const UNUSED = 0xffff;

/** Names and inode numbers of a directory, whichever of its forms it has. */
export async function readXfsDirectory(volume: Volume, layout: XfsLayout, inode: XfsInode): Promise<Directory> {
  const entries = new Map<string, number>();
  const extents: Extent[] = [];
  if (isLocal(inode)) parseShort(inode.fork, layout, entries);
  for await (const { offset, length, at } of xfsExtents(volume, layout, inode, BYTES_LIMIT)) {
    extents.push({ offset, length });
    if (at === undefined || at >= NAMES_END) continue;
    for (let start = 0; start + layout.directoryBytes <= length; start += layout.directoryBytes) {
      const block = await volume.read(offset + start, layout.directoryBytes);
      if (block !== undefined) parseBlock(block, layout, entries);
    }
    if (entries.size >= ENTRIES_LIMIT) break;
  }
  entries.delete(".");
  entries.delete("..");
  return { entries, extents };
}

/** Within the inode: counts, the parent, then the entries, with short or long inode numbers. */
function parseShort(fork: Buffer, layout: XfsLayout, entries: Map<string, number>): void {
  if (fork.length < 6) return;
  const isLong = fork.readUInt8(1) > 0;
  const count = isLong ? fork.readUInt8(1) : fork.readUInt8(0);
  const inodeBytes = isLong ? 8 : 4;
  let at = 2 + inodeBytes;
  for (let index = 0; index < count; index++) {
    if (at >= fork.length) return;
    const nameLength = fork.readUInt8(at);
    const name = at + 3;
    const inode = name + nameLength + (layout.hasFileTypes ? 1 : 0);
    if (nameLength === 0 || inode + inodeBytes > fork.length) return;
    const number = isLong ? Number(fork.readBigUInt64BE(inode)) : fork.readUInt32BE(inode);
    entries.set(fork.toString("utf8", name, name + nameLength), number);
    at = inode + inodeBytes;
  }
}

function parseBlock(block: Buffer, layout: XfsLayout, entries: Map<string, number>): void {
  const magic = block.toString("latin1", 0, 4);
  const holdsIndex = magic === "XD2B" || magic === "XDB3";
  if (!holdsIndex && magic !== "XD2D" && magic !== "XDD3") return;
  // One block that is a whole directory ends with its index: eight bytes an entry, and how many.
  const index = holdsIndex ? 8 + block.readUInt32BE(block.length - 8) * 8 : 0;
  const end = block.length - index;
  let at = layout.isVersion5 ? 64 : 16;
  while (at + 12 <= end && entries.size < ENTRIES_LIMIT) {
    if (block.readUInt16BE(at) === UNUSED) {
      const length = block.readUInt16BE(at + 2);
      if (length < 8) return;
      at += length;
      continue;
    }
    const nameLength = block.readUInt8(at + 8);
    const length = Math.ceil((8 + 1 + nameLength + (layout.hasFileTypes ? 1 : 0) + 2) / 8) * 8;
    if (nameLength === 0 || at + length > end) return;
    entries.set(block.toString("utf8", at + 9, at + 9 + nameLength), Number(block.readBigUInt64BE(at)));
    at += length;
  }
}
