import { crc32 } from "../../base/crc32.ts";
import { corrupt, ofAnotherVersion } from "./checkpoint.ts";
import type { FileStep } from "./file-steps.ts";
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
    try {
      const zeros = Buffer.alloc(Math.min(capacity, 1024 * 1024));
      for (let offset = 0; offset < capacity; offset += zeros.length) {
        await file.write(zeros.subarray(0, Math.min(zeros.length, capacity - offset)), offset);
      }
      await file.datasync();
    } catch (error) {
      await file.close();
      throw error;
    }
    return new Journal(number, file, capacity);
  }

  /**
   * The records of a journal's whole batches, in order. Stops at the last one where that is not whole: it was being appended when
   * the machine or the process went down.
   *
   * @throws DiskError OVERLAY_CORRUPT where acknowledged records are gone: no such journal, or one that is broken before its end;
   * OVERLAY_VERSION where there are such as are not known here
   */
  static async replay(directory: OverlayDirectory, disk: string, number: number): Promise<JournalRecord[]> {
    const name = journalName(disk, number);
    if (!(await directory.exists(name))) throw corrupt(`${name} is missing`);
    const file = await directory.open(name);
    try {
      const content = Buffer.alloc(file.size);
      await file.read(content, 0);
      return decodeBatches(content, number);
    } finally {
      await file.close();
    }
  }

  /** Whether a batch of so many records still fits. */
  fits(records: number): boolean {
    return this.#end + batchBytes(records) <= this.#capacity;
  }

  /**
   * The steps that append a batch, durably. The caller has checked that it {@link fits}, carries them out before it asks for others, and
   * tells then that the batch is {@link appended}.
   */
  next(records: readonly JournalRecord[]): FileStep[] {
    const bytes = encodeBatch(records, this.number, this.#sequence);
    return [
      { kind: "write", file: this.#file, bytes, offset: this.#end },
      { kind: "datasync", file: this.#file },
    ];
  }

  /** The steps for a batch of so many records were carried out. */
  appended(records: number): void {
    this.#sequence++;
    this.#end += batchBytes(records);
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

/** @throws DiskError OVERLAY_CORRUPT, OVERLAY_VERSION */
export function decodeBatches(content: Buffer, number: number): JournalRecord[] {
  const records: JournalRecord[] = [];
  let at = 0;
  for (let sequence = 0; ; sequence++) {
    const batch = batchAt(content, at, number);
    if (batch === undefined || batch.sequence !== sequence) break;
    for (const record of batch.records) records.push(record);
    at += batch.length;
  }
  // Each batch is on the disk before the next is appended: after one that was cut off there is none.
  for (let beyond = at; beyond + ALIGNMENT <= content.length; beyond += ALIGNMENT) {
    if (batchAt(content, beyond, number) === undefined) continue;
    throw corrupt(`${journalName("journal", number)} is damaged at byte ${at}, and goes on at byte ${beyond}`);
  }
  return records;
}

interface Batch {
  readonly sequence: number;
  readonly length: number;
  readonly records: readonly JournalRecord[];
}

/** The whole, unharmed batch that begins at `at`, or undefined. */
function batchAt(content: Buffer, at: number, number: number): Batch | undefined {
  if (at + HEADER > content.length) return undefined;
  if (content.readUInt32LE(at) !== MAGIC || content.readUInt32LE(at + 4) !== number) return undefined;
  const count = content.readUInt32LE(at + 12);
  const length = batchBytes(count);
  if (at + length > content.length) return undefined;
  const batch = content.subarray(at, at + length);
  if (batch.readUInt32LE(16) !== checksum(batch)) return undefined;
  const records = Array.from({ length: count }, (_, index): JournalRecord => {
    const from = HEADER + index * RECORD;
    return { op: knownOp(batch.readUInt32LE(from)), a: batch.readUInt32LE(from + 4), b: batch.readUInt32LE(from + 8) };
  });
  return { sequence: batch.readUInt32LE(8), length, records };
}

function knownOp(value: number): Op {
  const op = Object.values(OP).find((known) => known === value);
  if (op === undefined) throw ofAnotherVersion(`a record in the journal has the unknown kind ${value}`);
  return op;
}
