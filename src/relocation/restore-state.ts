import type { AgentControlClient } from "../api/agent-control-client.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Logger } from "../base/logging.ts";
import { patientRequest } from "./patient-request.ts";
import { putState } from "./put-state.ts";

export interface RestoreStateOptions {
  readonly client: Pick<AgentControlClient, "state">;
  /** Where the machine's state claim is mounted. */
  readonly directory: string;
  /** The machine's name when it was backed up, and now: KubeVirt names the file of EFI variables by it. */
  readonly machine: { readonly was: string; readonly is: string };
  readonly log: Logger;
  readonly clock?: Clock;
}

/**
 * Puts a machine's TPM and firmware state out of its backup onto its claim. Everything is durable when it resolves; run again, it does
 * the same again. An agent that is away is waited for without end.
 *
 * @throws AgentControlError where the agent refuses for good
 */
export async function restoreState(options: RestoreStateOptions, signal: AbortSignal): Promise<void> {
  const { directory, machine, log, clock = systemClock } = options;
  const { files } = await patientRequest(() => options.client.state(signal), clock, log, signal);
  const renamed = files.map(({ path, data }) => ({
    path: path === varsOf(machine.was) ? varsOf(machine.is) : path,
    content: Buffer.from(data, "base64"),
  }));
  log.info({ files: await putState(renamed, directory) }, "the machine's state is on its claim");
}

function varsOf(machine: string): string {
  return `nvram/${machine}_VARS.fd`;
}
