import { setImmediate as nextTurn } from "node:timers/promises";
import { crc32c } from "./crc32c.ts";
import { readGuid } from "./guid.ts";
import { corrupt, type ImageFile, type ReadRequest, unsupported } from "./image-file.ts";
import { PatchedFile } from "./patched-file.ts";
import { u64le } from "./tables.ts";
import type { VhdxHeader } from "./vhdx-header.ts";

const SECTOR = 4096;
const MIB = 1024 * 1024;
/** Writers make logs of 1 MiB. */
const LOG_LIMIT = 16 * MIB;
/** Pages that a log writes, those of zeros included, which take no memory of their own. */
const PAGES_LIMIT = 65_536;
/** Writes of pages in all, the same page again included: zeros cost a log nothing, and are written one page after the other. */
const WRITES_LIMIT = 16 * PAGES_LIMIT;
/** A log is a few times as large as what is looked at to find its entries, unless somebody made it to take long. */
const LOOKS = 4;
const ENTRY_HEADER_BYTES = 64;
const DESCRIPTOR_BYTES = 32;

interface Entry {
  readonly sequence: bigint;
  /** Sectors of the log that it takes. */
  readonly sectors: number;
  /** Where the active sequence of entries begins, bytes from the log's start. */
  readonly tail: number;
  /** The file was as long when the entry was written, and its data durable up to there. */
  readonly flushedSize: number;
  readonly lastSize: number;
  readonly bytes: Buffer;
}

/**
 * The file as it is once its log was replayed ([MS-VHDX] 2.3.3); the file itself where the log is empty. Nothing is written: the
 * pages are kept in memory, bounded.
 *
 * @throws DiskError IMAGE_CORRUPT where no valid sequence of entries is there, IMAGE_UNSUPPORTED where it is too large
 */
export async function replayVhdxLog(file: ImageFile, header: VhdxHeader, request: ReadRequest): Promise<ImageFile> {
  const { logOffset, logLength } = header;
  if (logLength > LOG_LIMIT) throw unsupported(file, `a log of ${logLength} bytes`, REPAIR);
  if (!(logLength > 0 && logLength % MIB === 0 && logOffset >= MIB && logOffset % MIB === 0)) {
    throw corrupt(file, "its log is not where one may be");
  }
  if (logOffset + logLength > file.size) throw corrupt(file, "its log does not lie in the file");
  const log = await file.read(logOffset, logLength, request);
  const sequence = await findSequence(file, log, header.logId);
  const newest = sequence.at(-1);
  if (newest === undefined) throw corrupt(file, "its log is said to be used, but holds no valid entries");
  if (!Number.isSafeInteger(newest.lastSize)) throw corrupt(file, "an entry of its log is wrong");
  if (newest.flushedSize > file.size) throw corrupt(file, "it is shorter than its log says: the file is not whole");

  const pages = new Map<number, Buffer>();
  let writes = 0;
  for (const entry of sequence) {
    writes = applyEntry(file, entry, pages, writes);
    await nextTurn();
  }
  const size = Math.max(file.size, newest.lastSize);
  return new PatchedFile(file, size, SECTOR, pages);
}

const REPAIR = "Replay it before the backup: detach the disk in Hyper-V, or run `qemu-img check -r all` on it.";

/** The valid sequence of entries whose newest is newest of all ([MS-VHDX] 2.3.3, "log sequence"). */
async function findSequence(file: ImageFile, log: Buffer, logId: string): Promise<Entry[]> {
  let best: Entry[] = [];
  let budget = LOOKS * log.length;
  /** Entries that a sequence went through begin none that is newer. */
  const seen = new Set<number>();
  for (let start = 0; start < log.length; start += SECTOR) {
    if (seen.has(start) || claimedLength(log, start) === 0) continue;
    const run: { entry: Entry; at: number }[] = [];
    let at = start;
    for (let sectors = 0; sectors < log.length / SECTOR; ) {
      budget -= claimedLength(log, at);
      if (budget < 0) throw corrupt(file, "the entries of its log lie over one another");
      const entry = parseEntry(log, at, logId);
      await nextTurn();
      const last = run.at(-1)?.entry;
      if (entry === undefined || (last !== undefined && entry.sequence !== last.sequence + 1n)) break;
      sectors += entry.sectors;
      if (sectors > log.length / SECTOR) break;
      run.push({ entry, at });
      seen.add(at);
      at = (at + entry.sectors * SECTOR) % log.length;
    }
    const newest = run.at(-1)?.entry;
    if (newest === undefined || newest.sequence <= (best.at(-1)?.sequence ?? -1n)) continue;
    // The newest entry tells where replay begins; what lies before is in the file already.
    const first = run.findIndex((item) => item.at === newest.tail);
    if (first >= 0) best = run.slice(first).map(({ entry }) => entry);
  }
  return best;
}

/** How long the entry is that may be there; 0 where there is none. */
function claimedLength(log: Buffer, at: number): number {
  const isEntry = log.toString("latin1", at, at + 4) === "loge";
  return isEntry ? Math.min(log.readUInt32LE(at + 8), log.length) : 0;
}

/** An entry of the log with right checksums and signatures; the log is a ring. */
function parseEntry(log: Buffer, at: number, logId: string): Entry | undefined {
  const head = log.subarray(at, at + ENTRY_HEADER_BYTES);
  if (head.toString("latin1", 0, 4) !== "loge") return undefined;
  const length = head.readUInt32LE(8);
  const tail = head.readUInt32LE(12);
  const descriptors = head.readUInt32LE(24);
  if (length === 0 || length % SECTOR !== 0 || length > log.length || tail % SECTOR !== 0) return undefined;
  if (readGuid(head, 32) !== logId) return undefined;
  if (ENTRY_HEADER_BYTES + descriptors * DESCRIPTOR_BYTES > length) return undefined;
  const bytes =
    at + length <= log.length
      ? log.subarray(at, at + length)
      : Buffer.concat([log.subarray(at), log.subarray(0, at + length - log.length)]);
  if (bytes.readUInt32LE(4) !== crc32c(bytes, 4)) return undefined;
  return {
    sequence: bytes.readBigUInt64LE(16),
    sectors: length / SECTOR,
    tail,
    flushedSize: u64le(bytes, 48),
    lastSize: u64le(bytes, 56),
    bytes,
  };
}

/** @param writes of pages, by the entries before. @returns with those of this one */
function applyEntry(file: ImageFile, { bytes, sequence }: Entry, pages: Map<number, Buffer>, writes: number): number {
  let written = writes;
  const count = bytes.readUInt32LE(24);
  let data = Math.ceil((ENTRY_HEADER_BYTES + count * DESCRIPTOR_BYTES) / SECTOR) * SECTOR;
  for (let index = 0; index < count; index++) {
    const at = ENTRY_HEADER_BYTES + index * DESCRIPTOR_BYTES;
    const kind = bytes.toString("latin1", at, at + 4);
    const offset = u64le(bytes, at + 16);
    const isOurs = bytes.readBigUInt64LE(at + 24) === sequence && offset % SECTOR === 0;
    if (!isOurs || !Number.isSafeInteger(offset)) throw corrupt(file, "an entry of its log is wrong");
    if (kind === "zero") {
      const length = u64le(bytes, at + 8);
      if (length % SECTOR !== 0 || length / SECTOR > PAGES_LIMIT) throw unsupported(file, "a log too large", REPAIR);
      written += length / SECTOR;
      if (written > WRITES_LIMIT) throw unsupported(file, "a log too large", REPAIR);
      for (let page = 0; page < length / SECTOR; page++) pages.set(offset / SECTOR + page, ZEROS);
    } else if (kind === "desc" && data + SECTOR <= bytes.length) {
      pages.set(offset / SECTOR, dataPage(file, bytes, at, data, sequence));
      data += SECTOR;
    } else throw corrupt(file, "an entry of its log is wrong");
    if (pages.size > PAGES_LIMIT) throw unsupported(file, "a log too large", REPAIR);
  }
  return written;
}

const ZEROS = Buffer.alloc(SECTOR);

/** A page of the file: its first 8 and last 4 bytes are in the descriptor, in their place are marks. */
function dataPage(file: ImageFile, entry: Buffer, descriptor: number, data: number, sequence: bigint): Buffer {
  const page = Buffer.from(entry.subarray(data, data + SECTOR));
  const high = BigInt(page.readUInt32LE(4));
  const low = BigInt(page.readUInt32LE(SECTOR - 4));
  if (page.toString("latin1", 0, 4) !== "data" || (high << 32n) + low !== sequence) {
    throw corrupt(file, "an entry of its log is torn");
  }
  entry.copy(page, 0, descriptor + 8, descriptor + 16);
  entry.copy(page, SECTOR - 4, descriptor + 4, descriptor + 8);
  return page;
}
