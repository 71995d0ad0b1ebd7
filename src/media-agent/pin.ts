import { hostname } from "node:os";
import type { Clock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";

/** A request that failed once should not leave the data unpinned for a minute; what lasts is asked for no more often than that. */
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 60_000;
const CHECK_MS = 10 * 60_000;

/** What a pin needs of a repository; see repository/pin.ts. */
interface PinnableRepository {
  pin(
    snapshotId: string,
    uid: string,
    owner: { readonly hostname: string; readonly pid: number },
    now: () => number,
  ): Promise<string>;
  isPinned(uid: string): Promise<boolean>;
  unpin(uid: string): Promise<void>;
  /** Rejects with SNAPSHOT_NOT_FOUND where it was forgotten. */
  snapshot(id: string): Promise<unknown>;
}

export interface PinOptions {
  readonly repository: PinnableRepository;
  readonly snapshot: string;
  readonly uid: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Told when {@link Pin.lost} changes. */
  readonly onLost?: (lost: boolean) => void;
}

/**
 * Keeps a second snapshot of what the VM runs from, so that the backup tool's forget and prune leave the data alone. Never in
 * the way of a boot: a repository that is locked or read-only is served unpinned, and the status says so.
 */
export class Pin {
  readonly #options: PinOptions;
  #last: Promise<unknown> = Promise.resolve();
  #removed = false;
  #lost = false;
  pinned = false;
  message = "not pinned yet";

  constructor(options: PinOptions) {
    this.#options = options;
  }

  /** Pins, and looks from time to time whether the pin is still there. Ends when the signal is aborted or the pin removed. */
  async keep(signal: AbortSignal): Promise<void> {
    let retryMs = FIRST_RETRY_MS;
    while (!signal.aborted && !this.#removed) {
      await this.#inTurn(() => this.#ensure());
      const pauseMs = this.pinned ? CHECK_MS : retryMs;
      retryMs = this.pinned ? FIRST_RETRY_MS : Math.min(LAST_RETRY_MS, 2 * retryMs);
      await this.#options.clock.sleep(pauseMs, signal).catch(() => undefined);
    }
  }

  /** The snapshot and the pin are gone: whoever prunes next deletes what the VM runs from, and there is nothing left to pin. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Looks now, out of turn: something is missing in the repository. */
  check(): Promise<void> {
    return this.#inTurn(() => this.#ensure());
  }

  /** Takes the pin away for good. Rejects where the repository cannot be written; then it is still there. */
  remove(): Promise<void> {
    this.#removed = true;
    return this.#inTurn(async () => {
      await this.#options.repository.unpin(this.#options.uid);
      this.pinned = false;
      this.message = "the pin was removed";
    });
  }

  async #ensure(): Promise<void> {
    if (this.#removed) return;
    const { repository, snapshot, uid, clock, log } = this.#options;
    try {
      if (this.pinned && (await repository.isPinned(uid))) {
        this.message = "";
        return;
      }
    } catch (error) {
      this.message = `the pin was not seen again: ${errorMessage(error)}`;
      log.warn({ code: errorCode(error), reason: errorMessage(error) }, "cannot look for the pin");
      return;
    }
    try {
      if (this.pinned) log.warn({ snapshot }, "the pin is gone from the repository; pinning again");
      this.pinned = false;
      await repository.pin(snapshot, uid, { hostname: hostname(), pid: process.pid }, () => clock.now());
      this.pinned = true;
      this.message = "";
      this.#setLost(false);
    } catch (error) {
      this.message = `not pinned: ${errorMessage(error)}`;
      log.warn({ code: errorCode(error), reason: errorMessage(error) }, "cannot pin the snapshot");
      await this.#lookForSnapshot(error);
    }
  }

  /** A repository that cannot be written, or not now, may have lost the snapshot all the same. */
  async #lookForSnapshot(failure: unknown): Promise<void> {
    const { repository, snapshot } = this.#options;
    const isGone = (error: unknown): boolean => errorCode(error) === "SNAPSHOT_NOT_FOUND";
    if (isGone(failure)) return this.#setLost(true);
    await repository.snapshot(snapshot).then(
      () => this.#setLost(false),
      (error: unknown) => {
        if (isGone(error)) this.#setLost(true);
      },
    );
  }

  #setLost(lost: boolean): void {
    if (lost === this.#lost) return;
    this.#lost = lost;
    this.#options.onLost?.(lost);
  }

  #inTurn<T>(body: () => Promise<T>): Promise<T> {
    const done = this.#last.catch(() => undefined).then(body);
    this.#last = done;
    return done;
  }
}

/** Several pins, told of as one. */
export class Pins {
  readonly #pins: readonly Pin[];

  constructor(pins: readonly Pin[]) {
    this.#pins = pins;
  }

  get pinned(): boolean {
    return this.#pins.every(({ pinned }) => pinned);
  }

  /** Why one of them is not there, or was not seen again. */
  get message(): string {
    return this.#pins.find(({ message }) => message !== "")?.message ?? "";
  }

  set message(message: string) {
    for (const pin of this.#pins) pin.message = message;
  }

  /** Whether one of the snapshots is gone, and its pin with it. */
  get lost(): boolean {
    return this.#pins.some(({ lost }) => lost);
  }

  /** See {@link Pin.check}. */
  async check(): Promise<void> {
    await Promise.all(this.#pins.map((pin) => pin.check()));
  }

  async keep(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#pins.map((pin) => pin.keep(signal)));
  }

  /** Rejects where one cannot be taken away; the others are. */
  async remove(): Promise<void> {
    const results = await Promise.allSettled(this.#pins.map((pin) => pin.remove()));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }
}
