import type { Extent } from "../../disk/block-device.ts";
import type { NtfsLayout } from "./ntfs-layout.ts";

const END = 0xffffffff;
const ATTRIBUTES = 64;
const RUNS = 4096;

export const ATTRIBUTE = { list: 0x20, data: 0x80, indexRoot: 0x90, indexAllocation: 0xa0 } as const;

/** An attribute of a file record, or the part of one that this record holds. */
export interface NtfsAttribute {
  readonly type: number;
  readonly name: string;
  /** The first cluster of the attribute that this part holds. */
  readonly firstCluster: number;
  /** Bytes, as far as this part says. */
  readonly size: number;
  /** Its bytes where they lie in the record itself. */
  readonly value: Buffer | undefined;
  /** Where they lie else; holes are left out. */
  readonly extents: readonly Extent[];
}

/** The attributes of a repaired file record. What makes no sense ends the list. */
export function parseAttributes(record: Buffer, layout: NtfsLayout): NtfsAttribute[] {
  const found: NtfsAttribute[] = [];
  let at = record.readUInt16LE(20);
  while (at + 24 <= record.length && found.length < ATTRIBUTES) {
    const type = record.readUInt32LE(at);
    const length = record.readUInt32LE(at + 4);
    if (type === END || length < 24 || at + length > record.length) break;
    const attribute = parseAttribute(record.subarray(at, at + length), type, layout);
    if (attribute !== undefined) found.push(attribute);
    at += length;
  }
  return found;
}

function parseAttribute(bytes: Buffer, type: number, layout: NtfsLayout): NtfsAttribute | undefined {
  const nameBytes = bytes.readUInt8(9) * 2;
  const nameAt = bytes.readUInt16LE(10);
  const name = bytes.toString("utf16le", nameAt, Math.min(bytes.length, nameAt + nameBytes));
  if (bytes.readUInt8(8) === 0) {
    const size = bytes.readUInt32LE(16);
    const from = bytes.readUInt16LE(20);
    if (from + size > bytes.length) return undefined;
    return { type, name, firstCluster: 0, size, value: bytes.subarray(from, from + size), extents: [] };
  }
  if (bytes.length < 64) return undefined;
  const firstCluster = Number(bytes.readBigUInt64LE(16));
  const size = firstCluster === 0 ? Number(bytes.readBigUInt64LE(48)) : 0;
  const extents = [...runs(bytes, bytes.readUInt16LE(32), layout)];
  return { type, name, firstCluster, size, value: undefined, extents };
}

/** A run list: for each run a byte with the sizes of the two numbers that follow, its length and its distance from the last one. */
function* runs(bytes: Buffer, start: number, { clusterBytes, size }: NtfsLayout): Generator<Extent> {
  let at = start;
  let cluster = 0;
  for (let count = 0; count < RUNS && at < bytes.length; count++) {
    const sizes = bytes.readUInt8(at);
    const lengthBytes = sizes & 0xf;
    const distanceBytes = sizes >> 4;
    const next = at + 1 + lengthBytes + distanceBytes;
    if (sizes === 0 || lengthBytes === 0 || lengthBytes > 6 || distanceBytes > 6 || next > bytes.length) return;
    const length = bytes.readUIntLE(at + 1, lengthBytes) * clusterBytes;
    at = next;
    if (distanceBytes === 0) continue;
    cluster += bytes.readIntLE(at - distanceBytes, distanceBytes);
    const offset = cluster * clusterBytes;
    if (cluster < 0 || length === 0 || offset + length > size) return;
    yield { offset, length };
  }
}
