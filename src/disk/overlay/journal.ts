import { crc32 } from "node:zlib";
import type { OverlayDirectory, OverlayFile } from "./files.ts";
import { type JournalRecord, OP, type Op } from "./page-map.ts";

const MAGIC = 0x4a524d56; // "VMRJ"
/** Batches begin at sectors of their own: appending one never rewrites a sector of an earlier, acknowledged one. */
const ALIGNMENT = 512;
const HEADER = 20;
const RECORD = 12;

export function journalName(disk: string, number: number): string {
  return `${disk}.journal.${number}`;
}

/** A fixed number of bytes that batches of records are appended to. See docs/overlay.md. */
export class Journal {
  readonly number: number;
  readonly #file: OverlayFile;
  readonly #capacity: number;
  #end = 0;
  #sequence = 0;

  private constructor(number: number, file: OverlayFile, capacity: number) {
    this.number = number;
    this.#file = file;
    this.#capacity = capacity;
  }

  /** Makes an empty journal whose space is really there: appending to it can never run out of space. */
  static async create(directory: OverlayDirectory, disk: string, number: number, capacity: number): Promise<Journal> {
    const file = await directory.open(journalName(disk, number));
    const zeros = Buffer.alloc(Math.min(capacity, 1024 * 1024));
    for (let offset = 0; offset < capacity; offset += zeros.length) {
      await file.write(zeros.subarray(0, Math.min(zeros.length, capacity - offset)), offset);
    }
    await file.datasync();
    return new Journal(number, file, capacity);
  }

  /** The records of a journal's whole batches, in order. Stops at the first that is not whole. */
  static async replay(directory: OverlayDirectory, disk: string, number: number): Promise<JournalRecord[]> {
    const name = journalName(disk, number);
    if (!(await directory.exists(name))) return [];
    const file = await directory.open(name);
    const content = Buffer.alloc(file.size);
    await file.read(content, 0);
    await file.close();
    return decodeBatches(content, number);
  }

  /** Whether a batch of so many records still fits. */
  fits(records: number): boolean {
    return this.#end + batchBytes(records) <= this.#capacity;
  }

  /** Durable when it resolves. The caller has checked that it {@link fits}. */
  async append(records: readonly JournalRecord[]): Promise<void> {
    const batch = encodeBatch(records, this.number, this.#sequence);
    await this.#file.write(batch, this.#end);
    await this.#file.datasync();
    this.#sequence++;
    this.#end += batch.length;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function batchBytes(records: number): number {
  return Math.ceil((HEADER + records * RECORD) / ALIGNMENT) * ALIGNMENT;
}

function encodeBatch(records: readonly JournalRecord[], number: number, sequence: number): Buffer {
  const batch = Buffer.alloc(batchBytes(records.length));
  batch.writeUInt32LE(MAGIC, 0);
  batch.writeUInt32LE(number, 4);
  batch.writeUInt32LE(sequence, 8);
  batch.writeUInt32LE(records.length, 12);
  for (const [index, { op, a, b }] of records.entries()) {
    const at = HEADER + index * RECORD;
    batch.writeUInt32LE(op, at);
    batch.writeUInt32LE(a, at + 4);
    batch.writeUInt32LE(b, at + 8);
  }
  batch.writeUInt32LE(checksum(batch), 16);
  return batch;
}

/** Over everything but the checksum itself. */
function checksum(batch: Buffer): number {
  return crc32(batch.subarray(HEADER), crc32(batch.subarray(0, 16)));
}

export function decodeBatches(content: Buffer, number: number): JournalRecord[] {
  const known = new Set<number>(Object.values(OP));
  const records: JournalRecord[] = [];
  let sequence = 0;
  for (let at = 0; at + HEADER <= content.length; sequence++) {
    const count = content.readUInt32LE(at + 12);
    const length = batchBytes(count);
    const isNext =
      content.readUInt32LE(at) === MAGIC &&
      content.readUInt32LE(at + 4) === number &&
      content.readUInt32LE(at + 8) === sequence &&
      at + length <= content.length;
    if (!isNext) break;
    const batch = content.subarray(at, at + length);
    if (batch.readUInt32LE(16) !== checksum(batch)) break;
    for (let index = 0; index < count; index++) {
      const from = HEADER + index * RECORD;
      const op = batch.readUInt32LE(from);
      if (!known.has(op)) break;
      records.push({ op: op as Op, a: batch.readUInt32LE(from + 4), b: batch.readUInt32LE(from + 8) });
    }
    at += length;
  }
  return records;
}
