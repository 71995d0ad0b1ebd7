import { Worker } from "node:worker_threads";
import { workerUrl } from "../../base/worker-url.ts";
import { type FileStep, StepError, stepByStep } from "./file-steps.ts";
import type { OverlayFile } from "./files.ts";
import {
  FIELD,
  FIELDS,
  KIND,
  MOST_BYTES,
  MOST_STEPS,
  type SharedSteps,
  type StepFailure,
  sharedSteps,
  WORD,
} from "./step-protocol.ts";

/** The file descriptor of an overlay's file; undefined where it is none of a real directory. */
export type DescriptorOf = (file: OverlayFile) => number | undefined;

/**
 * Carries out a few short writes and syncs on one thread, one after the other, without a word between them. By Node's own
 * thread pool each step would wake a thread, and that one the event loop: for a guest that writes one thing after the other, most of
 * the time of a durable write (docs/decisions/0056). One request at a time; what comes beside it, or is too large for it, goes the
 * usual way. The thread is started by the first request, and none waits for that.
 */
export class StepThread {
  readonly #descriptorOf: DescriptorOf;
  readonly #startWorker: (shared: SharedSteps) => Worker;
  #running: { readonly worker: Worker; readonly shared: SharedSteps } | undefined;
  #ended: Error | undefined;
  #isBusy = false;

  /** @param startWorker makes a worker that runs the module `step-worker` */
  constructor(descriptorOf: DescriptorOf, startWorker = startStepWorker) {
    this.#descriptorOf = descriptorOf;
    this.#startWorker = startWorker;
  }

  /**
   * Carries out the steps, each when the one before is over.
   *
   * @throws StepError
   */
  async carryOut(steps: readonly FileStep[]): Promise<void> {
    if (this.#ended === undefined) this.#running ??= this.#start();
    const { shared } = this.#running ?? {};
    const isFree = shared !== undefined && !this.#isBusy && Atomics.load(shared.control, WORD.ready) === 1;
    if (!isFree || this.#ended !== undefined || !this.#lay(steps, shared)) return stepByStep(steps);
    this.#isBusy = true;
    this.#running?.worker.ref();
    try {
      await this.#ask(shared);
    } finally {
      this.#running?.worker.unref();
      this.#isBusy = false;
    }
  }

  /** Describes the steps in the memory shared. False where they do not fit. */
  #lay(steps: readonly FileStep[], { control, fields, bytes }: SharedSteps): boolean {
    if (steps.length > MOST_STEPS) return false;
    let at = 0;
    for (const [index, step] of steps.entries()) {
      const descriptor = this.#descriptorOf(step.file);
      const length = step.kind === "write" ? step.bytes.length : 0;
      if (descriptor === undefined || at + length > MOST_BYTES) return false;
      if (step.kind === "write") bytes.set(step.bytes, at);
      at += length;
      const field = index * FIELDS;
      fields[field + FIELD.kind] = KIND[step.kind];
      fields[field + FIELD.descriptor] = descriptor;
      fields[field + FIELD.offset] = step.kind === "write" ? step.offset : 0;
      fields[field + FIELD.length] = length;
    }
    control[WORD.steps] = steps.length;
    return true;
  }

  async #ask({ control, bytes }: SharedSteps): Promise<void> {
    const before = Atomics.load(control, WORD.done);
    const answer = Atomics.waitAsync(control, WORD.done, before);
    Atomics.add(control, WORD.request, 1);
    Atomics.notify(control, WORD.request);
    if (answer.async) await answer.value;
    // Woken by its end, not by an answer: how far it came is not known.
    if (Atomics.load(control, WORD.done) === before) throw new StepError(0, this.#ended);
    const failed = control[WORD.failed] ?? 0;
    if (failed === 0) return;
    const text = Buffer.from(bytes.buffer).toString("utf8", 0, control[WORD.failureBytes]);
    const { code, message } = JSON.parse(text) as StepFailure;
    throw new StepError(failed - 1, Object.assign(new Error(message), { code }));
  }

  #start(): { readonly worker: Worker; readonly shared: SharedSteps } {
    const shared = sharedSteps();
    const worker = this.#startWorker(shared);
    worker.unref();
    let cause: unknown;
    worker.on("error", (error) => {
      cause = error;
    });
    worker.on("exit", () => {
      this.#ended ??= new Error("the thread that writes and syncs ended", { cause });
      Atomics.notify(shared.control, WORD.done);
    });
    return { worker, shared };
  }
}

function startStepWorker(shared: SharedSteps): Worker {
  // It holds next to nothing.
  return new Worker(workerUrl(import.meta.url, "./step-worker"), {
    workerData: shared,
    resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 24 },
  });
}
