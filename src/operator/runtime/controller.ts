import type { Clock } from "../../base/clock.ts";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import { ApiError, isConflict } from "./errors.ts";
import type { OperatorMetrics } from "./metrics.ts";
import type { WorkQueue } from "./work-queue.ts";

export interface ControllerOptions {
  readonly name: string;
  readonly queue: WorkQueue;
  /** Brings one object nearer to what is wanted; milliseconds until it should be called again, undefined: on a change only. */
  readonly reconcile: (namespace: string, name: string) => Promise<number | undefined>;
  readonly workers: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: OperatorMetrics;
}

/** Runs a controller's workers until the signal; what was begun is finished first. */
export async function runController(options: ControllerOptions, signal: AbortSignal): Promise<void> {
  const close = () => options.queue.close();
  if (signal.aborted) close();
  signal.addEventListener("abort", close, { once: true });
  await Promise.all(Array.from({ length: options.workers }, () => work(options)));
}

async function work({ name, queue, reconcile, clock, logger, metrics }: ControllerOptions): Promise<void> {
  for (;;) {
    const key = await queue.take();
    if (key === undefined) return;
    const slash = key.indexOf("/");
    const start = clock.monotonic();
    try {
      const again = await reconcile(key.slice(0, slash), key.slice(slash + 1));
      queue.forget(key);
      if (again !== undefined) queue.addAfter(key, again);
      metrics.reconciled(name, "success", clock.monotonic() - start);
    } catch (error) {
      metrics.reconciled(name, isConflict(error) ? "conflict" : "error", clock.monotonic() - start);
      if (!isConflict(error))
        logger.error({ key, code: errorCode(error), error: errorMessage(error) }, "reconcile failed");
      queue.addRateLimited(key, error instanceof ApiError ? error.retryAfterMs : undefined);
    } finally {
      queue.done(key);
    }
  }
}
