import type { Clock } from "../base/clock.ts";
import { DiskError } from "../disk/errors.ts";
import { isOutOfSpace } from "../disk/overlay/files.ts";
import { admission, machineOf, mounted, takenOver, type WriterFence } from "./writer-fence.ts";

const RETRY_MS = 1000;
/** For so long it is told that somebody's writes were refused. */
const RECENTLY_MS = 600_000;

export interface FencedWritesOptions {
  readonly fence: WriterFence;
  /** Durable when it resolves. */
  readonly save: (fence: WriterFence) => Promise<void>;
  /** When it resolves, every write that has begun has taken effect or never will. */
  readonly endWrites: (error: DiskError) => Promise<void>;
  /** A write through a mount of this machine was refused. */
  readonly onRefused: (machine: string) => void;
  /** What may write could not be made durable: the agent must end. */
  readonly onFailed: (error: unknown) => void;
  readonly clock: Clock;
  /** Ends what waits for space. */
  readonly signal: AbortSignal;
}

/**
 * Lets one mount of an export write: the last one that began to. Before the first write of a later mount is carried out it is durable
 * that no earlier one may write any more, and every write of theirs has taken effect or never will. Decision 0053.
 */
export class FencedWrites {
  readonly #options: FencedWritesOptions;
  #fence: WriterFence;
  /** Whose writes pass; undefined before the first one and while another takes over. */
  #admitted: number | undefined;
  #saving: Promise<unknown> = Promise.resolve();
  #takingOver: Promise<unknown> = Promise.resolve();
  #refused = 0;
  #lastRefused: { readonly machine: string; readonly at: number } | undefined;
  #waiting = 0;

  constructor(options: FencedWritesOptions) {
    this.#options = options;
    this.#fence = options.fence;
    this.#admitted = options.fence.writer;
  }

  /** The machine that has written last, as it said itself; empty where none has, or its name is not known. */
  get writer(): string {
    return machineOf(this.#fence, this.#fence.writer);
  }

  /** Writes that were refused since the start. */
  get refused(): number {
    return this.#refused;
  }

  /** The machine whose write was refused last, in the last ten minutes. */
  get refusedMachine(): string | undefined {
    const last = this.#lastRefused;
    return last === undefined || this.#options.clock.monotonic() - last.at > RECENTLY_MS ? undefined : last.machine;
  }

  /** Whether a write waits for space to make it durable who may write. */
  get full(): boolean {
    return this.#waiting > 0;
  }

  /** A client mounts: the number of its mount, durable unless the claim is full. */
  async mount(machine: string): Promise<number> {
    let number = 0;
    const edit = (fence: WriterFence): WriterFence => {
      const next = mounted(fence, machine);
      number = next.mounts;
      return next;
    };
    await this.#change(edit, (error, next) => {
      if (!isOutOfSpace(error)) throw this.#failed(error);
      // A machine that cannot mount cannot even read. It is durable with the next change; until then a restart may give the number again.
      this.#fence = next;
    });
    return number;
  }

  /**
   * Carries a write out, at once where its mount is the one that has written last.
   *
   * @throws DiskError WRITER_FENCED where a later mount has taken over; OVERLAY_FAILED, DISK_CLOSED where the agent ends
   */
  write<T>(mount: number, carryOut: () => Promise<T>): Promise<T> {
    return mount === this.#admitted ? carryOut() : this.#ask(mount, carryOut);
  }

  async #ask<T>(mount: number, carryOut: () => Promise<T>): Promise<T> {
    while (mount !== this.#admitted) {
      if (admission(this.#fence, mount) === "superseded") throw this.#refuse(mount);
      const done = this.#takingOver.then(() => this.#takeOver(mount));
      this.#takingOver = done.catch(() => undefined);
      await done;
    }
    return carryOut();
  }

  async #takeOver(mount: number): Promise<void> {
    if (mount === this.#admitted || admission(this.#fence, mount) === "superseded") return;
    // From here on nobody's write begins.
    this.#admitted = undefined;
    if (admission(this.#fence, mount) === "successor") await this.#saveTakenOver(mount);
    await this.#options.endWrites(fenced());
    this.#admitted = mount;
  }

  /** On a full claim it waits, as every write does. */
  async #saveTakenOver(mount: number): Promise<void> {
    const { clock, signal } = this.#options;
    let isFull = false;
    try {
      for (;;) {
        let wasFull = false;
        await this.#change(
          (fence) => takenOver(fence, mount),
          (error) => {
            if (!isOutOfSpace(error)) throw this.#failed(error);
            wasFull = true;
          },
        );
        if (!wasFull) return;
        if (!isFull) this.#waiting++;
        isFull = true;
        await clock.sleep(RETRY_MS, signal).catch(() => {
          throw new DiskError("DISK_CLOSED", "the disk is being closed");
        });
      }
    } finally {
      if (isFull) this.#waiting--;
    }
  }

  /** Changes run one after the other; what counts is what was made durable. */
  #change(
    edit: (fence: WriterFence) => WriterFence,
    onError: (error: unknown, next: WriterFence) => void,
  ): Promise<void> {
    const changed = this.#saving.then(async () => {
      const next = edit(this.#fence);
      try {
        await this.#options.save(next);
        this.#fence = next;
      } catch (error) {
        onError(error, next);
      }
    });
    this.#saving = changed.catch(() => undefined);
    return changed;
  }

  #refuse(mount: number): DiskError {
    const machine = machineOf(this.#fence, mount);
    this.#refused++;
    this.#lastRefused = { machine, at: this.#options.clock.monotonic() };
    this.#options.onRefused(machine);
    return fenced();
  }

  #failed(error: unknown): DiskError {
    this.#options.onFailed(error);
    return new DiskError("OVERLAY_FAILED", "who may write could not be made durable", { cause: error });
  }
}

function fenced(): DiskError {
  return new DiskError("WRITER_FENCED", "the disk is written to through a later mount", {
    hint: "The machine runs elsewhere. Whatever wrote here must be ended, and mount anew.",
  });
}
