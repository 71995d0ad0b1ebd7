import type { Clock } from "../../base/clock.ts";
import { type Deferred, deferred } from "../../base/deferred.ts";
import { DiskError } from "../errors.ts";
import { isOutOfSpace, type OverlayFile } from "./files.ts";
import type { Journal } from "./journal.ts";
import type { JournalRecord } from "./page-map.ts";

const SPACE_RETRY_MS = 1000;
/** A batch is cut into pieces of so many records: the journal is at least as large as one. */
const RECORDS_PER_BATCH = 2048;

/**
 * Makes everything that was done durable, for all who wait at once: data first, then the records that point to it, then the
 * answers (docs/overlay.md, "What is durable when").
 */
export class GroupCommit {
  #journal: Journal;
  readonly #data: OverlayFile;
  readonly #checkpoint: (old: Journal) => Promise<Journal>;
  readonly #clock: Clock;
  /** Records whose bytes are in the data file, but which are not durable yet. */
  #queued: JournalRecord[] = [];
  #touched = false;
  #waiters: Deferred<void>[] = [];
  #running: Promise<void> | undefined;
  #failure: DiskError | undefined;
  #full = false;
  #closed = false;

  /**
   * @param checkpoint writes the state as it is in memory at the time of the call, durably, data included, and gives the
   *   journal that continues it
   */
  constructor(journal: Journal, data: OverlayFile, clock: Clock, checkpoint: (old: Journal) => Promise<Journal>) {
    this.#clock = clock;
    this.#journal = journal;
    this.#data = data;
    this.#checkpoint = checkpoint;
  }

  get full(): boolean {
    return this.#full;
  }

  /** Bytes were written in the data file. */
  touch(): void {
    this.#touched = true;
  }

  /** A record whose bytes are in the data file. */
  add(record: JournalRecord): void {
    this.#queued.push(record);
  }

  /** Resolves when everything that was touched and added before is durable. */
  async commit(): Promise<void> {
    this.throwIfFailed();
    if (!this.#touched && this.#queued.length === 0 && this.#running === undefined) return;
    const waiter = deferred();
    this.#waiters.push(waiter);
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    await waiter.promise;
  }

  /** Nothing is acknowledged any more: what is on the disk is unknown. */
  fail(cause: unknown): void {
    this.#failure ??= this.failure(cause);
  }

  failure(cause: unknown): DiskError {
    return new DiskError("OVERLAY_FAILED", "the overlay's claim failed; nothing more is acknowledged", {
      cause,
      hint: "The media agent starts anew and goes on from what is durable. Look at the node's log for the claim's disk.",
    });
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw new DiskError("DISK_CLOSED", "the overlay is closed");
  }

  async close(): Promise<void> {
    if (this.#failure === undefined) await this.commit();
    this.#closed = true;
    await this.#journal.close();
  }

  async #run(): Promise<void> {
    while (this.#waiters.length > 0) {
      // Those who come from here on may have written after the sync began: they take part in the next round.
      const waiters = this.#waiters;
      const records = this.#queued;
      this.#waiters = [];
      this.#queued = [];
      try {
        this.throwIfFailed();
        await this.#round(records);
        for (const waiter of waiters) waiter.resolve();
      } catch (error) {
        this.fail(error);
        for (const waiter of [...waiters, ...this.#waiters.splice(0)]) waiter.reject(this.#failure);
      }
    }
  }

  async #round(records: JournalRecord[]): Promise<void> {
    if (this.#touched) {
      this.#touched = false;
      await this.#data.datasync();
    }
    for (let at = 0; at < records.length; at += RECORDS_PER_BATCH) {
      const batch = records.slice(at, at + RECORDS_PER_BATCH);
      if (!this.#journal.fits(batch.length)) {
        // The state in memory holds every record there is, those queued since included: none need be appended.
        await this.#makeRoom();
        return;
      }
      await this.#journal.append(batch);
    }
  }

  async #makeRoom(): Promise<void> {
    for (;;) {
      this.#queued = [];
      this.#touched = false;
      try {
        this.#journal = await this.#checkpoint(this.#journal);
        this.#full = false;
        return;
      } catch (error) {
        if (!isOutOfSpace(error)) throw error;
        this.#full = true;
        await this.#clock.sleep(SPACE_RETRY_MS);
      }
    }
  }
}
