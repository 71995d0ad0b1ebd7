import { crc32 } from "../../base/crc32.ts";

/** Checksums are kept for pieces of this size: a small read checks no more than what it touches. */
export const PIECE = 4096;
/** Pieces whose checksums are compared as one: asking for one costs as much again as working out that of a piece. */
const RUN = 16;

/** What so many bytes more make of a CRC-32, for each byte of it: the CRC-32 of a run follows from those of its pieces. */
const ADVANCE = [0, 1, 2, 3].map((byte) => advanceTable(byte * 8));

/** The CRC-32 of each piece; the last one may be short. */
export function checksumsOf(content: Buffer): Buffer {
  const checksums = new Uint32Array(Math.ceil(content.length / PIECE));
  for (let index = 0; index < checksums.length; index++) {
    checksums[index] = crc32(content.subarray(index * PIECE, (index + 1) * PIECE));
  }
  return Buffer.from(checksums.buffer);
}

/**
 * Whether pieces that lie in three parts, one after the other, have their checksums. A change within one piece is found as by its
 * own checksum; changes in several of a run of 64 KiB escape once in 2^32 times, as any change in one piece does.
 *
 * @param first index of the piece that begins the parts; only the last piece may be short
 */
export function isIntact(
  before: Buffer,
  middle: Buffer,
  after: Buffer,
  checksums: Readonly<Uint32Array>,
  first: number,
): boolean {
  const length = before.length + middle.length + after.length;
  const whole = Math.floor(length / PIECE);
  for (let at = 0; at < whole; at += RUN) {
    const end = Math.min(whole, at + RUN);
    const sum = checksumOfParts(before, middle, after, at * PIECE, end * PIECE);
    if (sum !== checksumOfRun(checksums, first + at, first + end)) return false;
  }
  if (whole * PIECE === length) return true;
  return checksumOfParts(before, middle, after, whole * PIECE, length) === checksums[first + whole];
}

/** Of the bytes `[from, to)` of the three parts together. */
function checksumOfParts(before: Buffer, middle: Buffer, after: Buffer, from: number, to: number): number {
  const middleEnd = before.length + middle.length;
  if (before.length === 0 && from === 0 && to === middle.length) return crc32(middle);
  let sum = 0;
  if (from < before.length) sum = crc32(before.subarray(from, to));
  if (from < middleEnd && to > before.length)
    sum = crc32(middle.subarray(Math.max(0, from - before.length), to - before.length), sum);
  if (to > middleEnd) sum = crc32(after.subarray(Math.max(0, from - middleEnd), to - middleEnd), sum);
  return sum;
}

/** Of the pieces `[from, to)`, all of them whole, one after the other. */
function checksumOfRun(checksums: Readonly<Uint32Array>, from: number, to: number): number {
  const [low, second, third, high] = ADVANCE as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  let sum = checksums[from] as number;
  for (let index = from + 1; index < to; index++) {
    const advanced =
      (low[sum & 0xff] as number) ^
      (second[(sum >>> 8) & 0xff] as number) ^
      (third[(sum >>> 16) & 0xff] as number) ^
      (high[sum >>> 24] as number);
    sum = (advanced ^ (checksums[index] as number)) >>> 0;
  }
  return sum;
}

/** What a piece's length makes of the eight bits from `shift` on. It is linear: the bits' parts are added, without carry. */
function advanceTable(shift: number): Uint32Array {
  const zeros = Buffer.alloc(PIECE);
  const table = new Uint32Array(256);
  for (let bit = 0; bit < 8; bit++) {
    const value = 1 << bit;
    const advanced = crc32(zeros, (value << shift) >>> 0) ^ crc32(zeros);
    for (let below = 0; below < value; below++) table[value + below] = advanced ^ (table[below] as number);
  }
  return table;
}
