import { hostname } from "node:os";
import type { Clock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";

const RETRY_MS = 60_000;
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
}

export interface PinOptions {
  readonly repository: PinnableRepository;
  readonly snapshot: string;
  readonly uid: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Keeps a second snapshot of what the VM runs from, so that the backup tool's forget and prune leave the data alone. Never in
 * the way of a boot: a repository that is locked or read-only is served unpinned, and the status says so.
 */
export class Pin {
  readonly #options: PinOptions;
  #last: Promise<unknown> = Promise.resolve();
  #removed = false;
  pinned = false;
  message = "not pinned yet";

  constructor(options: PinOptions) {
    this.#options = options;
  }

  /** Pins, and looks from time to time whether the pin is still there. Ends when the signal is aborted or the pin removed. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#removed) {
      await this.#inTurn(() => this.#ensure());
      await this.#options.clock.sleep(this.pinned ? CHECK_MS : RETRY_MS, signal).catch(() => undefined);
    }
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
    } catch (error) {
      this.message = `not pinned: ${errorMessage(error)}`;
      log.warn({ code: errorCode(error), reason: errorMessage(error) }, "cannot pin the snapshot");
    }
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

  async keep(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#pins.map((pin) => pin.keep(signal)));
  }

  /** Rejects where one cannot be taken away; the others are. */
  async remove(): Promise<void> {
    const results = await Promise.allSettled(this.#pins.map((pin) => pin.remove()));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }
}
