import * as z from "zod";
import type { ObjectMeta } from "./common.ts";
import { duration } from "./duration.ts";
import type { API_VERSION } from "./group.ts";
import { launch, mediaAgent } from "./vm-restore-spec/media-agent.ts";
import { liveMount, relocation } from "./vm-restore-spec/relocation.ts";
import { source } from "./vm-restore-spec/source.ts";
import { replace, virtualMachine } from "./vm-restore-spec/virtual-machine.ts";
import type { VMRestoreStatus } from "./vm-restore-status.ts";

export const vmRestoreSpec = z.object({
  dryRun: z
    .boolean()
    .default(false)
    .describe(
      "Nothing is made but a Job that looks into the backup and goes again: what would be made, and what is missing, is told in `status.plan`. Set to false, the restore begins.",
    ),
  source,
  virtualMachine,
  replace: replace.optional(),
  mediaAgent: mediaAgent.prefault({}),
  launch: launch.prefault({}),
  relocation: relocation.prefault({}),
  liveMount: liveMount.prefault({}),
  deletionPolicy: z
    .enum(["Retain", "Discard"])
    .default("Retain")
    .describe(
      "When this object is deleted before cutover. Retain: the media agent stays for as long as the machine needs it. Discard: the machine is deleted with all that was written to it.",
    ),
  ttlAfterCompletion: duration
    .optional()
    .describe(
      "How long this object stays once the restore is completed. Only the object goes then, never the machine; one that failed stays. By default it stays.",
    ),
});

export type VMRestoreSpec = z.infer<typeof vmRestoreSpec>;

/** As read from the API server: `spec` is what was sent and is parsed before use. */
export interface VMRestore {
  apiVersion: typeof API_VERSION;
  kind: "VMRestore";
  metadata: ObjectMeta;
  spec: unknown;
  status?: VMRestoreStatus;
}

/**
 * What a real API server refuses to change once a media agent was made for it. Where no server evaluates these rules, a
 * change has no effect: the operator goes by the plan that it wrote down when it made the agent.
 */
export const IMMUTABLE_ONCE_PREPARED = ["source", "virtualMachine.name", "mediaAgent"] as const;
