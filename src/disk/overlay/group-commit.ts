import { type Deferred, deferred } from "../../base/deferred.ts";
import { errorCode } from "../../base/errors.ts";
import { DiskError } from "../errors.ts";
import type { OverlayFile } from "./files.ts";
import type { Journal } from "./journal.ts";
import type { JournalRecord } from "./page-map.ts";
import type { SpaceWait } from "./space-wait.ts";

/** A batch is cut into pieces of so many records: the journal is at least as large as one. */
const RECORDS_PER_BATCH = 2048;
/** With so many, they are made durable although nobody asks: what nobody ever commits does not pile up. */
const RECORDS_QUEUED = 8192;

export interface GroupCommitOptions {
  /** Undefined where there was no space for one: the first round makes it. */
  readonly journal: Journal | undefined;
  readonly data: OverlayFile;
  /** Waits for space. */
  readonly space: SpaceWait;
  /**
   * Writes the state as it is in memory at the time of the call, durably, data included, and gives the journal that continues
   * it. May be called again where it found no space.
   */
  readonly checkpoint: (old: Journal | undefined) => Promise<Journal>;
  /** Told once of a failure of the claim. */
  readonly onFailed: (error: DiskError) => void;
}

/**
 * Makes everything that was done durable, for all who wait at once: data first, then the records that point to it, then the
 * answers (docs/overlay.md, "What is durable when").
 */
export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #journal: Journal | undefined;
  /** Records whose bytes are in the data file, but which are not durable yet. */
  #queued: JournalRecord[] = [];
  #touched = false;
  #waiters: Deferred<void>[] = [];
  #isRunning = false;
  #failure: DiskError | undefined;
  #closed = false;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    this.#journal = options.journal;
  }

  /** Whether it waits for space, or has not found any for a journal since the start: nothing becomes durable. */
  get full(): boolean {
    return this.#options.space.full || this.#journal === undefined;
  }

  /** Bytes were written in the data file. */
  touch(): void {
    this.#touched = true;
  }

  /** A record whose bytes are in the data file. */
  add(record: JournalRecord): void {
    this.#queued.push(record);
    // Whoever commits next hears of a failure.
    if (this.#queued.length === RECORDS_QUEUED) this.commit().catch(() => undefined);
  }

  /** Resolves when everything that was touched and added before is durable. */
  async commit(): Promise<void> {
    this.throwIfFailed();
    const isIdle = !this.#touched && this.#queued.length === 0 && !this.#isRunning;
    if (isIdle && this.#journal !== undefined) return;
    const waiter = deferred();
    this.#waiters.push(waiter);
    if (!this.#isRunning) void this.#run();
    await waiter.promise;
  }

  /** Nothing is acknowledged any more: what is on the disk is unknown. Gives back what everybody is told. */
  fail(cause: unknown): DiskError {
    if (this.#failure !== undefined) return this.#failure;
    this.#failure = claimFailed(cause);
    if (this.#failure.code === "OVERLAY_FAILED") this.#options.onFailed(this.#failure);
    return this.#failure;
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw new DiskError("DISK_CLOSED", "the overlay is closed");
  }

  /** The caller sees to it that nobody waits for space any more: what finds none now is not acknowledged. */
  async close(): Promise<void> {
    const committed = this.#failure === undefined ? this.commit() : Promise.resolve();
    this.#closed = true;
    try {
      await committed;
    } finally {
      await this.#journal?.close();
    }
  }

  /** Rounds, as long as somebody waits. Whoever comes while it runs is seen by it: it ends in the step in which it looks. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiters.length > 0) {
      // Those who come from here on may have written after the sync began: they take part in the next round.
      const waiters = this.#waiters;
      const records = this.#queued;
      this.#waiters = [];
      this.#queued = [];
      try {
        if (this.#failure !== undefined) throw this.#failure;
        await this.#round(records);
        for (const waiter of waiters) waiter.resolve();
      } catch (error) {
        const failure = this.fail(error);
        for (const waiter of [...waiters, ...this.#waiters.splice(0)]) waiter.reject(failure);
      }
    }
    this.#isRunning = false;
  }

  async #round(records: JournalRecord[]): Promise<void> {
    if (this.#touched) {
      this.#touched = false;
      await syncData(this.#options.data);
    }
    if (this.#journal === undefined) return this.#makeRoom();
    for (let at = 0; at < records.length; at += RECORDS_PER_BATCH) {
      const batch = records.slice(at, at + RECORDS_PER_BATCH);
      // The state in memory holds every record there is, those queued since included: none need be appended.
      if (!this.#journal.fits(batch.length)) return this.#makeRoom();
      await this.#journal.append(batch);
    }
  }

  async #makeRoom(): Promise<void> {
    const { checkpoint, space } = this.#options;
    this.#journal = await space.retry(() => {
      this.#queued = [];
      this.#touched = false;
      return checkpoint(this.#journal);
    });
  }
}

/**
 * Makes the data durable. A failure is final whatever its code: the kernel may have dropped what it could not write, and the next sync
 * would say that all is well.
 *
 * @throws DiskError OVERLAY_FAILED
 */
export async function syncData(data: OverlayFile): Promise<void> {
  await data.datasync().catch((error: unknown) => {
    throw claimFailed(error);
  });
}

/** An error that has said so already stays as it is, and so does the end of waiting for space. */
function claimFailed(cause: unknown): DiskError {
  const isFinal = errorCode(cause) === "OVERLAY_FAILED" || errorCode(cause) === "DISK_CLOSED";
  if (cause instanceof DiskError && isFinal) return cause;
  return new DiskError("OVERLAY_FAILED", "the overlay's claim failed; nothing more is acknowledged", {
    cause,
    hint: "The media agent starts anew and goes on from what is durable. Look at the node's log for the claim's disk.",
  });
}
