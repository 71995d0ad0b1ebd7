import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { AgentControlClient } from "../api/agent-control-client.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { placeFile, syncPath } from "../base/durable-file.ts";
import type { Logger } from "../base/logging.ts";
import { patientRequest } from "./patient-request.ts";

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
 * Puts a machine's TPM and firmware state onto its claim. Everything is durable when it resolves; run again, it does the same again. An
 * agent that is away is waited for without end.
 *
 * @throws AgentControlError where the agent refuses for good
 */
export async function restoreState(options: RestoreStateOptions, signal: AbortSignal): Promise<void> {
  const { directory, machine, log, clock = systemClock } = options;
  const { files } = await patientRequest(() => options.client.state(signal), clock, log, signal);
  const directories = new Set<string>();
  for (const { path, data } of files) {
    const place = join(directory, path === varsOf(machine.was) ? varsOf(machine.is) : path);
    await mkdir(dirname(place), { recursive: true, mode: 0o770 });
    await placeFile(place, Buffer.from(data, "base64"), { mode: 0o660 });
    for (let above = dirname(place); above.length >= directory.length; above = dirname(above)) directories.add(above);
  }
  for (const each of directories) await syncPath(each);
  log.info({ files: files.length }, "the machine's state is on its claim");
}

function varsOf(machine: string): string {
  return `nvram/${machine}_VARS.fd`;
}
