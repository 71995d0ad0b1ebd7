import * as z from "zod";
import { objectName } from "../common.ts";
import { duration } from "../duration.ts";
import { quantity } from "../quantity.ts";

const claimSize = z.object({
  size: quantity.optional(),
  storageClassName: objectName.optional().describe("By default the cluster's default class."),
});

const resourceList = z.record(z.string().max(253), z.string().max(64)).meta({ maxProperties: 16 }).optional();

/** What serves the disks meanwhile. */
export const mediaAgent = z.object({
  cache: claimSize
    .prefault({})
    .describe("The read cache; by default as large as the backup's data, 20Gi at most. May be lost without harm."),
  overlay: claimSize
    .prefault({})
    .describe(
      "What the machine writes until cutover. As durable as its class; by default in the target's class, and large enough for every byte of every disk.",
    ),
  allowNodeLocalOverlay: z
    .boolean()
    .default(false)
    .describe(
      "Accept a class whose volumes live on one node: losing that node then loses what was written since the backup.",
    ),
  allowedClients: z
    .array(
      z
        .string()
        .max(64)
        .regex(/^[0-9A-Fa-f:.]+(\/\d{1,3})?$/),
    )
    .max(64)
    .meta({ "x-kubernetes-list-type": "set" })
    .optional()
    .describe(
      "Addresses and networks, as 10.0.0.0/8, from which the disks may be mounted: a second gate behind the unguessable export path. Often a node is seen by its gateway's or tunnel's address; everybody unless given.",
    ),
  repositoryPatience: duration
    .default("30s")
    .describe(
      "How long a read may wait for the repository before this object is Degraded for it. The machine waits on.",
    ),
  resources: z.object({ requests: resourceList, limits: resourceList }).optional(),
  nodeSelector: z.record(z.string().max(317), z.string().max(63)).meta({ maxProperties: 32 }).optional(),
  tolerations: z
    .array(
      z.object({
        key: z.string().max(317).optional(),
        operator: z.enum(["Exists", "Equal"]).optional(),
        value: z.string().max(63).optional(),
        effect: z.enum(["NoSchedule", "PreferNoSchedule", "NoExecute"]).optional(),
        tolerationSeconds: z.int().nonnegative().optional(),
      }),
    )
    .max(32)
    .meta({ "x-kubernetes-list-type": "atomic" })
    .optional(),
});

/** When the machine starts, and when it counts as ready. */
export const launch = z.object({
  waitForBootSet: z.boolean().default(true).describe("Start the machine only when what it will read first is staged."),
  bootSetTimeout: duration.default("30s").describe("How long to wait for that at most."),
  guestReady: z
    .object({
      probe: z
        .enum(["GuestAgent", "Running"])
        .default("GuestAgent")
        .describe("What tells that the guest is ready: its guest agent, or only that it runs."),
      timeout: duration.default("10m"),
    })
    .prefault({}),
});
