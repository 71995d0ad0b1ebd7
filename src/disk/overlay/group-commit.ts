import { type Deferred, deferred } from "../../base/deferred.ts";
import { errorCode } from "../../base/errors.ts";
import { DiskError } from "../errors.ts";
import { type FileStep, StepError } from "./file-steps.ts";
import type { OverlayDirectory, OverlayFile } from "./files.ts";
import type { Journal } from "./journal.ts";
import type { JournalRecord } from "./page-map.ts";
import type { SpaceWait } from "./space-wait.ts";

/** A batch is cut into pieces of so many records: the journal is at least as large as one. */
const RECORDS_PER_BATCH = 2048;
/** With so many, they are made durable although nobody asks: what nobody ever commits does not pile up. */
const RECORDS_QUEUED = 8192;

/** A write to the data file that is to be durable, with the record that points to it. */
export interface WriteThrough {
  readonly bytes: Uint8Array;
  readonly offset: number;
  /** Undefined where nothing but bytes changes. */
  readonly record: JournalRecord | undefined;
  /** Called in the step in which both are durable: before anybody else commits. */
  readonly onDurable: () => void;
}

export interface GroupCommitOptions {
  /** Undefined where there was no space for one: the first round makes it. */
  readonly journal: Journal | undefined;
  readonly data: OverlayFile;
  /** Carries out steps on both. */
  readonly inOrder: OverlayDirectory["inOrder"];
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

  /**
   * Writes into the data file and makes that and its record durable, in the order of a commit, without anything between. Only where nobody
   * else waits or commits, and nothing is queued: else it gives false, and nothing has happened.
   *
   * @throws what the write found, which may have written a part; or DiskError OVERLAY_FAILED
   */
  async writeThrough({ bytes, offset, record, onDurable }: WriteThrough): Promise<boolean> {
    const journal = this.#journal;
    const isAlone = !this.#isRunning && this.#queued.length === 0 && this.#failure === undefined && !this.#closed;
    if (!isAlone || journal === undefined || !journal.fits(1)) return false;
    const { data } = this.#options;
    const steps: FileStep[] = [
      { kind: "write", file: data, bytes, offset },
      { kind: "datasync", file: data },
    ];
    if (record !== undefined) steps.push(...journal.next([record]));
    this.#isRunning = true;
    // What others write from here on may come after the sync.
    this.#touched = false;
    try {
      await this.#options.inOrder(steps);
      if (record !== undefined) journal.appended(1);
      onDurable();
    } catch (error) {
      if (!(error instanceof StepError) || error.step > 0) throw this.fail(error);
      this.#touched = true;
      throw error.cause;
    } finally {
      // Whoever has come meanwhile is seen by this, or begins anew.
      this.#isRunning = false;
      if (this.#waiters.length > 0) void this.#run();
    }
    return true;
  }

  /** Nothing is acknowledged any more: what is on the disk is unknown. Gives back what everybody is told. */
  fail(cause: unknown): DiskError {
    if (this.#failure !== undefined) return this.#failure;
    this.#failure = claimFailed(cause instanceof StepError ? cause.cause : cause);
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
    let steps = this.#syncOfData();
    for (let at = 0; at < records.length || steps.length > 0 || this.#journal === undefined; at += RECORDS_PER_BATCH) {
      const batch = records.slice(at, at + RECORDS_PER_BATCH);
      // The state in memory holds every record there is, those queued since included: none need be appended.
      const journal = this.#journal;
      if (journal === undefined || (batch.length > 0 && !journal.fits(batch.length))) return this.#makeRoom();
      if (batch.length > 0) steps.push(...journal.next(batch));
      await this.#options.inOrder(steps);
      if (batch.length > 0) journal.appended(batch.length);
      steps = [];
    }
  }

  /** What was written there before the call is durable once it is carried out. */
  #syncOfData(): FileStep[] {
    if (!this.#touched) return [];
    this.#touched = false;
    return [{ kind: "datasync", file: this.#options.data }];
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
