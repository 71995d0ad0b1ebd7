import { AgentControlError } from "../api/agent-control-client.ts";
import type { Clock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import { Backoff } from "./backoff.ts";

/**
 * Repeats a request to the media agent until it is answered, however long the agent is away; each one of the control API may be repeated.
 *
 * @throws AgentControlError what the agent refuses for good; the signal's reason where it is aborted
 */
export async function patientRequest<T>(
  request: () => Promise<T>,
  clock: Clock,
  log: Logger,
  signal: AbortSignal,
): Promise<T> {
  const backoff = new Backoff(clock);
  for (;;) {
    signal.throwIfAborted();
    try {
      return await request();
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof AgentControlError) || !error.isTransient) throw error;
      log.warn({ code: errorCode(error), reason: errorMessage(error) }, "the media agent does not answer; trying on");
    }
    await backoff.wait(signal);
  }
}
