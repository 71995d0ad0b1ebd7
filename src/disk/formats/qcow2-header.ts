import { corrupt, type ImageFile, quoted, type ReadRequest, unsupported } from "./image-file.ts";
import { type Tables, u64be } from "./tables.ts";
import type { Codec } from "./unpack.ts";

const MAGIC = 0x514649fb;
const V2_LENGTH = 72;
const V3_LENGTH = 104;
/** The header, its extensions and the backing file's name lie in the first cluster; of a large one only so much is looked at. */
const HEAD_LIMIT = 64 * 1024;
const BACKING_NAME_LIMIT = 1023;
/** As QEMU has it. */
const L1_BYTES_LIMIT = 32 * 1024 * 1024;

/** Incompatible features: who does not know one must not read the image. */
const FEATURE = { dirty: 1, corrupt: 2, dataFile: 4, compressionType: 8, extendedL2: 16 } as const;
const EXTENSION = { end: 0, backingFormat: 0xe2792aca, featureNames: 0x6803f857 } as const;
const FEATURE_NAME_BYTES = 48;

/** A qcow2 header (QEMU's docs/interop/qcow2.txt), checked. */
export interface Qcow2Header {
  readonly version: number;
  readonly size: number;
  readonly clusterBits: number;
  readonly extendedL2: boolean;
  readonly codec: Codec;
  readonly l1Offset: number;
  readonly backing: { readonly name: string; readonly format: string | undefined } | undefined;
}

/** @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED */
export async function readQcow2Header(file: ImageFile, tables: Tables, request: ReadRequest): Promise<Qcow2Header> {
  const head = await tables.bytes(file, 0, Math.min(HEAD_LIMIT, file.size), "its header", request);
  if (head.length < V2_LENGTH || head.readUInt32BE(0) !== MAGIC) throw corrupt(file, "no qcow2 header");
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    throw unsupported(file, `qcow2 of version ${version}`, "Versions 2 and 3 are known; convert it with qemu-img.");
  }
  const length = version === 2 ? V2_LENGTH : head.length < V3_LENGTH ? 0 : head.readUInt32BE(100);
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) throw corrupt(file, `clusters of 2^${clusterBits} bytes`);
  const isSound = version === 2 || (length >= V3_LENGTH && length % 8 === 0);
  const headEnd = Math.min(head.length, 2 ** clusterBits);
  if (!isSound || length > headEnd) throw corrupt(file, `a header of ${length} bytes`);

  const extensions = readExtensions(file, head.subarray(0, headEnd), length);
  const features = version === 2 ? { high: 0, low: 0 } : { high: head.readUInt32BE(72), low: head.readUInt32BE(76) };
  checkFeatures(file, features, extensions.featureNames);
  if (head.readUInt32BE(32) !== 0) {
    throw unsupported(file, "an encrypted qcow2 image", "Decrypt it with qemu-img before it is backed up.");
  }
  const extendedL2 = (features.low & FEATURE.extendedL2) !== 0;
  if (extendedL2 && clusterBits < 14) throw corrupt(file, `subclusters in clusters of 2^${clusterBits} bytes`);

  const size = u64be(head, 24);
  const l1Entries = head.readUInt32BE(36);
  const l1Offset = u64be(head, 40);
  const l2Coverage = 2 ** (clusterBits * 2 - (extendedL2 ? 4 : 3));
  if (!Number.isSafeInteger(size)) throw corrupt(file, "a disk of more than 2^53 bytes");
  if (l1Entries * 8 > L1_BYTES_LIMIT) throw corrupt(file, `a first table of ${l1Entries} entries`);
  const needed = Math.ceil(size / l2Coverage);
  const isTable = l1Offset % 2 ** clusterBits === 0 && l1Offset + l1Entries * 8 <= file.size;
  if (needed > l1Entries || (needed > 0 && !isTable)) throw corrupt(file, "its first table does not cover the disk");
  const backing = readBacking(file, head.subarray(0, headEnd), extensions.backingFormat);
  return {
    version,
    size,
    clusterBits,
    extendedL2,
    codec: readCodec(file, head, length, features.low),
    l1Offset,
    backing,
  };
}

function readExtensions(
  file: ImageFile,
  head: Buffer,
  start: number,
): { backingFormat: string | undefined; featureNames: Buffer } {
  const backingOffset = u64be(head, 8);
  const end = backingOffset === 0 ? head.length : Math.min(head.length, backingOffset);
  const found: { backingFormat: string | undefined; featureNames: Buffer } = {
    backingFormat: undefined,
    featureNames: Buffer.alloc(0),
  };
  for (let at = start; at + 8 <= end; ) {
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    at += 8;
    if (type === EXTENSION.end) break;
    if (length > end - at) throw corrupt(file, "a header extension reaches beyond the header");
    const content = head.subarray(at, at + length);
    if (type === EXTENSION.backingFormat) found.backingFormat = content.toString("latin1");
    if (type === EXTENSION.featureNames) found.featureNames = content;
    at += Math.ceil(length / 8) * 8;
  }
  return found;
}

function checkFeatures(file: ImageFile, { high, low }: { high: number; low: number }, names: Buffer): void {
  if ((low & FEATURE.dataFile) !== 0) {
    throw unsupported(file, "its data is in an external file", "Convert it to one file with qemu-img.");
  }
  if ((low & FEATURE.corrupt) !== 0) throw corrupt(file, "it is marked as corrupt");
  const known = FEATURE.dirty | FEATURE.compressionType | FEATURE.extendedL2;
  for (let bit = 0; bit < 64; bit++) {
    const isSet = ((bit < 32 ? low : high) & (1 << (bit & 31))) !== 0;
    if (!isSet || (bit < 32 && (known & (1 << bit)) !== 0)) continue;
    const name = quoted(featureName(names, bit) ?? `bit ${bit}`);
    throw unsupported(file, `it has a feature that is not known: ${name}`, "Convert it without it, with qemu-img.");
  }
}

function featureName(names: Buffer, bit: number): string | undefined {
  for (let at = 0; at + FEATURE_NAME_BYTES <= names.length; at += FEATURE_NAME_BYTES) {
    if (names[at] !== 0 || names[at + 1] !== bit) continue;
    return names.toString("latin1", at + 2, at + FEATURE_NAME_BYTES).split("\0")[0];
  }
  return undefined;
}

function readCodec(file: ImageFile, head: Buffer, length: number, features: number): Codec {
  const type = length > V3_LENGTH ? head.readUInt8(V3_LENGTH) : 0;
  const isOther = (features & FEATURE.compressionType) !== 0;
  if (isOther !== (type !== 0)) throw corrupt(file, "its header contradicts itself about its compression");
  if (type === 0) return "deflate";
  if (type === 1) return "zstd";
  throw unsupported(file, `its compression, number ${type}, is not known`, "Convert it to zlib or zstd with qemu-img.");
}

function readBacking(file: ImageFile, head: Buffer, format: string | undefined): Qcow2Header["backing"] {
  const offset = u64be(head, 8);
  const length = head.readUInt32BE(16);
  if (offset === 0) return undefined;
  if (length === 0) return undefined;
  if (length > BACKING_NAME_LIMIT || offset + length > head.length) {
    throw corrupt(file, "its backing file's name does not lie in its header");
  }
  const name = head.toString("utf8", offset, offset + length);
  // `json:` and `nbd://…`: QEMU takes what is before the first colon for a protocol.
  if (/^[^/]*:/.test(name)) {
    throw unsupported(
      file,
      `its backing file is ${quoted(name)}`,
      "A backing file must be a file of the same snapshot.",
    );
  }
  return { name, format };
}
