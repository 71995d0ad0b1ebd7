import { errorCode } from "../../base/errors.ts";
import type { OpenedOverlay } from "./open-overlay.ts";
import type { JournalRecord } from "./page-map.ts";
import { newBytes } from "./page-sources.ts";

/** What waits for space is told to give up with these; nothing has failed. */
const GIVEN_UP: ReadonlySet<string | undefined> = new Set(["DISK_SEALED", "WRITER_FENCED"]);

/** Bytes for the data file: whole sectors of pages that the caller holds. */
export interface DataWrite {
  readonly bytes: Uint8Array;
  readonly offset: number;
  /** What the journal is to say of them. */
  readonly record: JournalRecord;
  /** Whether it is asked to be durable as well. */
  readonly durable: boolean;
  /** The write is given up when it is aborted, if it has not begun. */
  readonly signal: AbortSignal | undefined;
}

/** Puts bytes into an overlay's data file and records them: see docs/overlay.md, "What is durable when". */
export class DataWriter {
  readonly #overlay: OpenedOverlay;
  readonly #size: number;
  readonly #record: (record: JournalRecord) => void;

  /**
   * @param size the disk's, in bytes
   * @param record makes a record count, in memory and in the queue
   */
  constructor(overlay: OpenedOverlay, size: number, record: (record: JournalRecord) => void) {
    this.#overlay = overlay;
    this.#size = size;
    this.#record = record;
  }

  /**
   * Waits, for as long as it takes, while there is no space.
   *
   * @returns whether bytes and record are durable
   * @throws DiskError OVERLAY_FAILED, or why it was given up
   */
  async store(write: DataWrite): Promise<boolean> {
    const { space, closing, commit } = this.#overlay;
    const { signal } = write;
    signal?.throwIfAborted();
    try {
      return await space.retry(() => this.#put(write), signal);
    } catch (error) {
      const isGivenUp = error === signal?.reason || error === closing.signal.reason;
      if (isGivenUp || GIVEN_UP.has(errorCode(error))) throw error;
      throw commit.fail(error);
    }
  }

  async #put(write: DataWrite): Promise<boolean> {
    const { map, data, commit, room } = this.#overlay;
    const { bytes, offset, record, durable } = write;
    const over = await room.take(newBytes(map, offset, bytes.length, this.#size));
    let isDone = false;
    try {
      const through = durable ? await this.#putThrough(write) : undefined;
      if (through === undefined) {
        await data.write(bytes, offset);
        commit.touch();
        this.#record(record);
      }
      isDone = true;
      return through === "durable";
    } finally {
      over(isDone);
      // A part may be there, and be read, where there was no space for the rest: the next commit syncs it, whatever becomes of this write.
      if (!isDone) commit.touch();
    }
  }

  /**
   * Puts bytes and record onto the claim in one go, before the record counts here. Whatever was frozen meanwhile has its place in the
   * journal after that record, and must not take its mark along: then it is made once more.
   *
   * @returns undefined where others commit, and nothing has happened
   */
  async #putThrough({ bytes, offset, record }: DataWrite): Promise<"durable" | "recorded" | undefined> {
    const { map, commit } = this.#overlay;
    const { lastId } = map;
    const isNew = map.changes(record);
    const onDurable = (): void => {
      if (isNew && map.lastId === lastId) map.apply(record);
    };
    const isThrough = await commit.writeThrough({ bytes, offset, record: isNew ? record : undefined, onDurable });
    if (!isThrough) return undefined;
    if (!map.changes(record)) return "durable";
    this.#record(record);
    return "recorded";
  }
}
