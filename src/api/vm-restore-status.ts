import * as z from "zod";
import { byteCount, conditions, dnsLabel, objectName, timestamp } from "./common.ts";

export const RESTORE_PHASES = [
  "Pending",
  "Preparing",
  "Staging",
  "Launching",
  "Running",
  "Relocating",
  "CuttingOver",
  "OnTrial",
  "RollingBack",
  "Completed",
  "Failed",
] as const;

const REFERENCE_STATES = ["Created", "Same", "Differs", "Found", "Missing"] as const;

const disk = z.object({
  name: dnsLabel,
  size: byteCount.describe("Bytes of the virtual disk."),
  path: z.string().max(4096).optional().describe("Its file in the snapshot."),
  snapshot: z
    .string()
    .max(64)
    .optional()
    .describe("The snapshot that it is of, where that is another one than `status.snapshot`."),
  bytesStaged: byteCount.optional().describe("Bytes of the boot set that are in the read cache."),
  bytesTotal: byteCount.optional().describe("Bytes that relocation has to look at."),
  bytesRelocated: byteCount.optional().describe("Bytes that are durable at the target."),
  bytesRead: byteCount
    .optional()
    .describe("Bytes that a live migration has read. They count only once the machine has moved."),
  bytesDirty: byteCount.optional().describe("Bytes written since, to be copied again."),
});

export const vmRestoreStatus = z.object({
  observedGeneration: byteCount.optional(),
  phase: z.enum(RESTORE_PHASES).optional(),
  message: z.string().max(32768).optional().describe("What it waits for, or what to do."),
  waiting: z
    .object({
      condition: z.string().max(316),
      reason: z.string().max(1024),
      since: timestamp.describe("Since when it waits for the same."),
    })
    .optional()
    .describe("Which condition it waits for, as `message` says, and since when."),
  conditions: conditions.optional(),
  timeline: z
    .array(
      z.object({
        step: z.string().max(63),
        startedAt: timestamp,
        resumedAt: timestamp.optional().describe("When it began again the last time, if it did."),
        finishedAt: timestamp.optional(),
      }),
    )
    .max(32)
    .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["step"] })
    .optional(),
  queue: z
    .object({ position: byteCount.describe("From 1."), waiting: byteCount.describe("How many wait for the same.") })
    .optional()
    .describe("Its place, while it waits for other restores."),
  plan: z
    .object({
      madeAt: timestamp,
      strategy: z.string().max(32),
      strategyReason: z.string().max(1024).describe("Why it is this strategy."),
      bytesInBackup: byteCount.describe(
        "Bytes of the disks in the backup, zeros left out: relocation reads them all, a live mount what the guest asks for.",
      ),
      bytesToClaim: byteCount.describe("Bytes of storage that the claims ask for."),
      objects: z
        .array(
          z.object({
            kind: z.string().max(63),
            namespace: z.string().max(63).optional(),
            name: z.string().max(253),
            bytes: byteCount.optional(),
            storageClassName: objectName.optional(),
          }),
        )
        .max(1024)
        .meta({ "x-kubernetes-list-type": "atomic" })
        .describe("What would be made, but for what the machine itself refers to."),
      missing: z
        .array(z.object({ reason: z.string().max(1024), message: z.string().max(4096) }))
        .max(16)
        .meta({ "x-kubernetes-list-type": "atomic" })
        .describe("What stands in the way, and what to do about it."),
    })
    .optional()
    .describe("What a dry run found; gone once the restore is under way."),
  snapshot: z
    .object({ id: z.string().max(64), time: timestamp, host: z.string().max(253) })
    .optional()
    .describe("The snapshot that the machine runs from."),
  strategy: z
    .enum(["LiveMigration", "Copy", "None"])
    .optional()
    .describe("How the disks are relocated; absent until it is decided."),
  strategyReason: z.string().max(4096).optional().describe("Why it is this way."),
  disks: z
    .array(disk)
    .max(64)
    .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"] })
    .optional(),
  machine: z
    .object({
      leftOut: z
        .array(z.string().max(128))
        .max(64)
        .meta({ "x-kubernetes-list-type": "set" })
        .optional()
        .describe("Fields and volumes of the manifest that were not taken over: unknown, or not a backup's to give."),
      references: z
        .array(
          z.object({
            kind: z.enum(["Secret", "ConfigMap", "ControllerRevision", "PersistentVolumeClaim"]),
            name: objectName,
            state: z
              .enum(REFERENCE_STATES)
              .describe(
                "Created: from the backup. Same: it was there, as in the backup. Differs: it was there with other content, and is used as it is. Found: it was there, and the backup does not hold it. Missing: it is nowhere.",
              ),
          }),
        )
        .max(80)
        .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["kind", "name"] })
        .optional()
        .describe("What the machine refers to in its namespace."),
      stateRestored: z
        .boolean()
        .optional()
        .describe(
          "Whether its TPM and firmware state was put onto its claim, from the backup or from the machine that it replaces.",
        ),
    })
    .optional()
    .describe("How the machine was made from its manifest."),
  replaced: z
    .object({
      uid: z.string().max(64).describe("Of the VirtualMachine."),
      manifestSecret: objectName.describe(
        "The Secret in this namespace that holds its manifest, `virtualmachine.json`.",
      ),
      digest: z.string().max(64).describe("SHA-256 of that, in hex."),
      claims: z
        .array(objectName)
        .max(256)
        .meta({ "x-kubernetes-list-type": "set" })
        .describe("Its disks' claims. They stay until you delete them, and DataVolumes of the same name with them."),
      stateClaims: z
        .array(objectName)
        .max(16)
        .meta({ "x-kubernetes-list-type": "set" })
        .optional()
        .describe(
          "Those with its TPM and firmware state. KubeVirt no longer finds them: for that they need the label `persistent-state-for`, with the machine's name.",
        ),
    })
    .optional()
    .describe("The machine whose place the restored one takes."),
  bootSet: z
    .object({
      source: z.enum(["Profile", "Structure"]),
      bytes: byteCount,
      bytesStaged: byteCount,
      hitRatio: z
        .string()
        .max(8)
        .optional()
        .describe("Guest reads while booting that waited for no repository, of all such reads: 0.00 to 1.00."),
    })
    .optional(),
  relocation: z
    .object({
      percent: z.int().min(0).max(100),
      bytesPerSecond: byteCount
        .optional()
        .describe("As measured in the last seconds; absent while nothing moves or too little was seen to tell."),
      estimatedEnd: timestamp
        .optional()
        .describe(
          "When the target has everything, or a live migration has read everything, at the measured rate; absent while there is none.",
        ),
    })
    .optional(),
  mediaAgent: z
    .object({
      address: z.string().max(64).describe("The Service's address. Never changes."),
      name: objectName.describe("The StatefulSet in the operator's namespace."),
      bytesFetched: byteCount.optional().describe("Bytes read from the repository since the agent's last start."),
      bytesFromPeers: byteCount
        .optional()
        .describe(
          "Bytes that came from other media agents instead, since the agent's last start; absent where none did.",
        ),
      pinned: z.boolean().optional().describe("Whether the snapshot is protected from `restic forget`."),
      node: objectName.optional().describe("The node that it is on."),
      lastMove: z
        .object({
          from: objectName.describe("Node."),
          to: objectName.describe("Node."),
          at: timestamp.describe(
            "When it stopped answering: on the old node, or on one before that where it answered nobody on the old one. Where that is not known, when it began on the new one.",
          ),
          pause: z
            .string()
            .max(24)
            .optional()
            .describe(
              "How long nobody got an answer: from then to the first answer on the new node. By the clocks of both: it is off by as much as they differ. Absent until there is one, where the agent on the old node did not end in order, and where nobody had the disks open.",
            ),
        })
        .optional()
        .describe("Its last move to another node, as when one is drained."),
    })
    .optional(),
  targetClaims: z
    .array(z.object({ disk: dnsLabel, name: objectName, uid: z.string().max(64) }))
    .max(64)
    .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["disk"] })
    .optional(),
  timeToGuestReady: z.string().max(24).optional().describe("From this object's creation."),
  cutoverDowntime: z.string().max(24).optional().describe("From the halt until the guest was ready again."),
  expiresAt: timestamp.optional(),
  liveMount: z
    .object({
      since: timestamp.describe("From when its time is counted, where the machine was made before that."),
      expiresAfter: z.string().max(64).optional(),
      onExpiry: z.enum(["Discard", "Keep"]),
    })
    .optional()
    .describe("What of spec.liveMount counts; absent while the disks go to a target."),
  rollBackUntil: timestamp
    .optional()
    .describe("Until then the machine is on trial on its target, and the media agent is kept to go back to."),
});

export type ReferenceState = (typeof REFERENCE_STATES)[number];
export type VMRestoreStatus = z.infer<typeof vmRestoreStatus>;
export type RestorePhase = (typeof RESTORE_PHASES)[number];
