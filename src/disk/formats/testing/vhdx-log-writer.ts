import { crc32c } from "../crc32c.ts";

const SECTOR = 4096;
const HEADERS = [64 * 1024, 128 * 1024];
const LOG_ID = Buffer.from("0123456789abcdef0123456789abcdef", "hex");

/** What one entry of a log does: pages of one value, or zeros over some pages. */
export interface LogWrite {
  readonly page: number;
  /** Undefined: zeros. */
  readonly value: number | undefined;
  readonly pages: number;
}

/**
 * Leaves a log behind in a VHDX, as a writer that was cut off does: each entry in turn, in the ring of the log from some place on.
 *
 * @param start sector of the log that the first entry begins at
 * @param replayed entries at the front that are in the file already: the newest entry's tail lies behind them
 */
export function withLog(
  image: Buffer,
  entries: readonly (readonly LogWrite[])[],
  start: number,
  replayed: number,
): Buffer {
  const copy = Buffer.from(image);
  const newest = HEADERS.reduce((a, b) => (copy.readBigUInt64LE(a + 8) > copy.readBigUInt64LE(b + 8) ? a : b));
  const logLength = copy.readUInt32LE(newest + 68);
  const logOffset = Number(copy.readBigUInt64LE(newest + 72));
  const log = copy.subarray(logOffset, logOffset + logLength);
  log.fill(0);
  const starts: number[] = [];
  let at = (start % (logLength / SECTOR)) * SECTOR;
  for (const [index, writes] of entries.entries()) {
    starts.push(at);
    const tail = starts[Math.min(replayed, index)] ?? at;
    const entry = encode(writes, BigInt(index + 5), tail, image.length);
    for (let sector = 0; sector < entry.length; sector += SECTOR) {
      entry.copy(log, (at + sector) % logLength, sector, sector + SECTOR);
    }
    at = (at + entry.length) % logLength;
  }
  for (const header of HEADERS) {
    LOG_ID.copy(copy, header + 48);
    const bytes = copy.subarray(header, header + SECTOR);
    bytes.writeUInt32LE(crc32c(bytes, 4), 4);
  }
  return copy;
}

function encode(writes: readonly LogWrite[], sequence: bigint, tail: number, fileBytes: number): Buffer {
  const pages = writes.flatMap(({ page, value, pages: count }) =>
    value === undefined ? [] : Array.from({ length: count }, (_, index) => ({ page: page + index, value })),
  );
  const zeros = writes.filter(({ value }) => value === undefined);
  const count = pages.length + zeros.length;
  const head = Buffer.alloc(Math.ceil((64 + count * 32) / SECTOR) * SECTOR);
  const data: Buffer[] = [];
  let at = 64;
  for (const { page, pages: length } of zeros) {
    head.write("zero", at, "latin1");
    head.writeBigUInt64LE(BigInt(length * SECTOR), at + 8);
    head.writeBigUInt64LE(BigInt(page * SECTOR), at + 16);
    head.writeBigUInt64LE(sequence, at + 24);
    at += 32;
  }
  for (const { page, value } of pages) {
    head.write("desc", at, "latin1");
    head.fill(value, at + 4, at + 16);
    head.writeBigUInt64LE(BigInt(page * SECTOR), at + 16);
    head.writeBigUInt64LE(sequence, at + 24);
    at += 32;
    const piece = Buffer.alloc(SECTOR, value);
    piece.write("data", 0, "latin1");
    piece.writeUInt32LE(Number(sequence >> 32n), 4);
    piece.writeUInt32LE(Number(sequence & 0xffffffffn), SECTOR - 4);
    data.push(piece);
  }
  const entry = Buffer.concat([head, ...data]);
  entry.write("loge", 0, "latin1");
  entry.writeUInt32LE(entry.length, 8);
  entry.writeUInt32LE(tail, 12);
  entry.writeBigUInt64LE(sequence, 16);
  entry.writeUInt32LE(count, 24);
  LOG_ID.copy(entry, 32);
  entry.writeBigUInt64LE(BigInt(fileBytes), 48);
  entry.writeBigUInt64LE(BigInt(fileBytes), 56);
  entry.writeUInt32LE(crc32c(entry, 4), 4);
  return entry;
}
