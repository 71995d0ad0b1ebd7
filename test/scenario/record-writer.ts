import type { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";

const SECTOR = 512;

interface Pending {
  readonly offset: number;
  readonly bytes: Buffer;
}

/**
 * A client with a stripe of a disk to itself. It writes numbered records, as a database does: some FILE_SYNC, some UNSTABLE with a
 * COMMIT at times, some that are no whole sectors, and reads them back meanwhile. It knows what was acknowledged.
 */
export class RecordWriter {
  /** Bytes from the disk's start. */
  readonly start: number;
  readonly #next: () => number;
  /** What is durable for certain, but for what is pending. */
  readonly #durable: Buffer;
  /** Written and not known to be durable, in order. */
  #pending: Pending[] = [];
  #verifiers = new Set<string>();
  #number = 0;
  #resentTo: NfsFile | undefined;
  acknowledged = 0;

  /** @param content of the stripe, in the backup */
  constructor(start: number, content: Buffer, next: () => number) {
    this.start = start;
    this.#durable = Buffer.from(content);
    this.#next = next;
  }

  get end(): number {
    return this.start + this.#durable.length;
  }

  /** Writes until the connection ends, or the signal is aborted. Rejects when it reads what cannot be. */
  async run(file: NfsFile, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#resend(file);
        await this.#step(file);
      } catch (error) {
        if (String(error).includes("connection closed")) return;
        throw error;
      }
    }
  }

  /** Makes everything durable. */
  async finish(file: NfsFile): Promise<void> {
    await this.#resend(file);
    await this.#commit(file);
  }

  /** Everything in the stripe is what it may be. @param disk all of it, read after a crash */
  check(disk: Buffer, where: string): void {
    const found = this.#stripe(disk);
    for (let at = 0; at < found.length; at += SECTOR) {
      const sector = found.subarray(at, at + SECTOR);
      if (!this.#possible(at).some((content) => content.equals(sector))) {
        throw new Error(
          `${where}: sector at byte ${this.start + at} is neither what was acknowledged nor what came after it`,
        );
      }
    }
  }

  /** The client died with the machine: what is there now is what stays. */
  adopt(disk: Buffer): void {
    this.#stripe(disk).copy(this.#durable);
    this.#pending = [];
    this.#verifiers.clear();
  }

  #stripe(disk: Buffer): Buffer {
    return disk.subarray(this.start, this.start + this.#durable.length);
  }

  /** What a sector may hold: a write of no whole sectors is never pending beside others. */
  #possible(at: number): Buffer[] {
    const possible = [this.#durable.subarray(at, at + SECTOR)];
    for (const { offset, bytes } of this.#pending) {
      if (offset >= at + SECTOR || offset + bytes.length <= at) continue;
      const content = Buffer.from(this.#durable.subarray(at, at + SECTOR));
      bytes.copy(content, Math.max(0, offset - at), Math.max(0, at - offset));
      possible.push(content);
    }
    return possible;
  }

  /** What a reader sees now. */
  #now(): Buffer {
    const now = Buffer.from(this.#durable);
    for (const { offset, bytes } of this.#pending) bytes.copy(now, offset);
    return now;
  }

  async #step(file: NfsFile): Promise<void> {
    const dice = this.#next();
    if (dice < 0.2) return this.#read(file);
    if (dice < 0.3) return this.#commit(file);
    const isOdd = dice > 0.92;
    if (isOdd) await this.#commit(file);
    const { offset, length } = this.#place(isOdd ? 1 : SECTOR);
    const bytes = this.#record(length);
    this.#pending.push({ offset, bytes });
    if (isOdd || dice < 0.6) {
      await file.write(this.start + offset, bytes);
      // Covers what was done before it: all of it, since one call follows the other.
      this.#settle();
    } else {
      this.#verifiers.add(await file.writeUnstable(this.start + offset, bytes));
    }
  }

  #place(unit: number): { offset: number; length: number } {
    const units = Math.floor(this.#durable.length / unit);
    const most = unit === 1 ? 3000 : 40;
    const length = 1 + Math.floor(this.#next() * most);
    const offset = Math.floor(this.#next() * (units - length));
    return { offset: offset * unit, length: length * unit };
  }

  /** Zeros at times; else every sector says who wrote it, and when. */
  #record(length: number): Buffer {
    this.#number++;
    if (this.#next() < 0.1) return Buffer.alloc(length);
    const text = `record ${this.#number} of ${this.start}. `;
    return Buffer.alloc(length, text.padEnd(64, "#"));
  }

  async #read(file: NfsFile): Promise<void> {
    const { offset, length } = this.#place(this.#next() < 0.5 ? 1 : SECTOR);
    const found = await file.read(this.start + offset, length);
    if (!found.equals(this.#now().subarray(offset, offset + length))) {
      throw new Error(`a read of ${length} bytes at ${this.start + offset} gave what was never written there`);
    }
  }

  /** After a lost connection, as a client does that mounts hard: in order, and everything before anything new. */
  async #resend(file: NfsFile): Promise<void> {
    if (this.#pending.length === 0 || this.#resentTo === file) return;
    this.#verifiers.clear();
    for (const { offset, bytes } of this.#pending) {
      this.#verifiers.add(await file.writeUnstable(this.start + offset, bytes));
    }
    this.#resentTo = file;
  }

  async #commit(file: NfsFile): Promise<void> {
    const verifier = await file.commit();
    const isSame = this.#verifiers.size === 0 || (this.#verifiers.size === 1 && this.#verifiers.has(verifier));
    if (!isSame) throw new Error("a server of one connection changed its verifier");
    this.#settle();
  }

  #settle(): void {
    this.#now().copy(this.#durable);
    this.acknowledged += this.#pending.length;
    this.#pending = [];
    this.#verifiers.clear();
  }
}
