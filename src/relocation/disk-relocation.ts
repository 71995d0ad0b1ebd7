import { AgentControlError } from "../api/agent-control-client.ts";
import type { Clock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import { NbdError } from "../nbd/errors.ts";
import type { AgentSession } from "./agent-session.ts";
import { Backoff } from "./backoff.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { dirtyPass } from "./dirty-pass.ts";
import { RelocationError } from "./errors.ts";
import type { FairSlots } from "./fair-slots.ts";
import { firstPass } from "./first-pass.ts";
import { newTargetId } from "./marker.ts";
import { Pacing } from "./pacing.ts";
import { Progress } from "./progress.ts";
import { isDone, planRelocation } from "./resume.ts";
import { Source, type SourceOptions } from "./source.ts";
import { Target } from "./target.ts";
import type { TokenBucket } from "./token-bucket.ts";
import { Verification } from "./verification.ts";

/** How often the agent is asked whether the disk was sealed. It adds to a cutover's downtime. Milliseconds. */
const POLL_MS = 250;
/** How often it is looked whether the agent that answers is still the one that the connection leads to. Milliseconds. */
const WATCH_MS = 5_000;
/** Said once what the first pass copied is durable at the target, and the agent knows. */
export const FIRST_PASS_DONE = "copied what holds data";
/** A connection that held so long was a good one: the wait before the next one is short again. Milliseconds. */
const STEADY_MS = 10_000;

export interface DiskRelocationOptions {
  readonly name: string;
  /** A block device, or the directory where a claim is mounted. */
  readonly path: string;
  readonly verify: boolean;
  readonly source: SourceOptions;
  readonly session: AgentSession;
  readonly slots: FairSlots;
  readonly buffers: BufferPool;
  readonly bucket: TokenBucket;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How the relocation of one disk ended. */
export interface RelocatedDisk {
  readonly name: string;
  /** Bytes of the disk. */
  readonly size: number;
  /** SHA-256 of source and target, hex, where they were compared. */
  readonly checksum?: string;
}

/** Relocates one disk, from wherever an earlier run ended. docs/relocation.md says what a crash at any point leaves. */
export class DiskRelocation {
  readonly #options: DiskRelocationOptions;
  readonly #pacing = new Pacing();

  constructor(options: DiskRelocationOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<RelocatedDisk> {
    const { name, path, session } = this.#options;
    const status = await session.disk(name, signal);
    // Before the target is opened for writing: a VM may run from it already.
    const target = await Target.open(path, status.size, isDone(status) ? "compare" : "copy");
    try {
      return await this.#relocate(target, signal);
    } finally {
      await target.close();
    }
  }

  async #relocate(target: Target, signal: AbortSignal): Promise<RelocatedDisk> {
    const { name, session, clock, log } = this.#options;
    const status = await session.disk(name, signal);
    const plan = planRelocation(status, isDone(status) ? undefined : await target.marker());
    log.info({ disk: name, plan: plan.kind, ...(plan.kind === "resume" ? { cursor: plan.cursor } : {}) }, "relocating");
    if (plan.kind === "compare") return this.#compare(target, signal);

    const progress = new Progress(name, session, clock, plan.kind === "resume" ? status.relocation : undefined);
    let isZeroed = false;
    if (plan.kind === "fresh") {
      const id = newTargetId();
      ({ isZeroed } = await target.begin(id));
      // The marker is durable before the agent knows its name: a crash between the two makes another fresh start.
      await progress.tell({ target: id }, signal);
    }
    await this.#connected(target, signal, async (source, attempt) => {
      if (progress.told.cursor < target.heldBackFrom) {
        await firstPass({ ...this.#options, source, target, progress }, isZeroed && attempt === 1, signal);
        log.info({ disk: name, bytes: progress.told.bytesDurable }, FIRST_PASS_DONE);
      }
      await this.#passes(source, target, progress, signal);
    });
    return this.#conclude(target, progress, signal);
  }

  async #passes(source: Source, target: Target, progress: Progress, signal: AbortSignal): Promise<void> {
    const { name, session, clock, log } = this.#options;
    for (;;) {
      const startedAt = clock.monotonic();
      const generation = await dirtyPass({ ...this.#options, disk: name, source, target, progress }, signal);
      const ms = Math.round(clock.monotonic() - startedAt);
      log.info({ disk: name, generation: generation.id, bytes: generation.bytes, ms }, "copied a generation");
      if (generation.final) return;
      this.#pacing.passed(generation.bytes, ms);
      await progress.tell({ state: this.#pacing.isConverged ? "Converged" : "Converging" }, signal);
      const endedAt = clock.monotonic();
      while (!this.#pacing.isDue(await session.disk(name, signal), clock.monotonic() - endedAt)) {
        await progress.tellRate(signal);
        await clock.sleep(POLL_MS, signal);
      }
    }
  }

  /** The disk is sealed and everything but the last page is at the target. */
  async #conclude(target: Target, progress: Progress, signal: AbortSignal): Promise<RelocatedDisk> {
    const { name, verify } = this.#options;
    const lastLength = target.size - target.heldBackFrom;
    const done = { state: "Done", cursor: target.size } as const;
    if (!verify) {
      const lastPage = await this.#connected(target, signal, (source) => source.read(target.heldBackFrom, lastLength));
      await target.finish(lastPage);
      await progress.tell(done, signal);
      return { name, size: target.size };
    }
    await progress.tell({ state: "Verifying" }, signal);
    try {
      const checksum = await this.#verify(target, signal, (lastPage) => target.finish(lastPage));
      await progress.tell({ ...done, checksum }, signal);
      return { name, size: target.size, checksum };
    } catch (error) {
      if (errorCode(error) === "RELOCATION_VERIFY_FAILED") await progress.tell({ state: "VerifyFailed" }, signal);
      throw error;
    }
  }

  /** An earlier run was done. Says whether this is the target that it was done with; changes nothing. */
  async #compare(target: Target, signal: AbortSignal): Promise<RelocatedDisk> {
    const checksum = await this.#verify(target, signal, async () => undefined);
    return { name: this.#options.name, size: target.size, checksum };
  }

  async #verify(target: Target, signal: AbortSignal, finish: (lastPage: Buffer) => Promise<void>): Promise<string> {
    const verification = new Verification(target);
    try {
      const lastPage = await this.#connected(target, signal, async (source) => {
        await verification.body(source, signal);
        return source.read(target.heldBackFrom, target.size - target.heldBackFrom);
      });
      await finish(lastPage);
      return await verification.conclude(lastPage, signal);
    } finally {
      await verification.close();
    }
  }

  /** Runs `body` with a connection to the agent, again with another one whenever the agent goes or fails meanwhile. */
  async #connected<T>(
    target: Target,
    signal: AbortSignal,
    body: (source: Source, attempt: number) => Promise<T>,
  ): Promise<T> {
    const { name, session, clock, log } = this.#options;
    const backoff = new Backoff(clock);
    for (let attempt = 1; ; attempt++) {
      const { instance } = await session.status(signal);
      const ended = new AbortController();
      const connectedAt = clock.monotonic();
      let source: Source | undefined;
      const close = (): void => source?.close();
      try {
        source = await Source.connect(name, this.#options.source);
        signal.addEventListener("abort", close, { once: true });
        signal.throwIfAborted();
        if (source.size !== target.size) {
          throw new RelocationError("RELOCATION_DISK_UNKNOWN", `${name} has ${source.size} bytes, not ${target.size}`);
        }
        void this.#watch(instance, close, AbortSignal.any([signal, ended.signal]));
        return await body(source, attempt);
      } catch (error) {
        signal.throwIfAborted();
        const isPassing = error instanceof NbdError || (error instanceof AgentControlError && error.status === 409);
        if (!isPassing) throw error;
        log.warn({ disk: name, code: error.code, reason: errorMessage(error) }, "lost the media agent; trying again");
        if (clock.monotonic() - connectedAt > STEADY_MS) backoff.reset();
        await backoff.wait(signal);
      } finally {
        ended.abort(new Error("the connection ended"));
        signal.removeEventListener("abort", close);
        close();
      }
    }
  }

  /** A node that died says no goodbye: a connection to an agent that was replaced is closed from this side. */
  async #watch(instance: string, close: () => void, signal: AbortSignal): Promise<void> {
    const { session, clock } = this.#options;
    try {
      for (;;) {
        await clock.sleep(WATCH_MS, signal);
        if ((await session.status(signal)).instance !== instance) {
          close();
          return;
        }
      }
    } catch {
      // Ended, or refused: then the passes hear it too.
      close();
    }
  }
}
