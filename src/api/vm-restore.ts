import * as z from "zod";
import { dnsLabel, type ObjectMeta, objectName, timestamp } from "./common.ts";
import { diskFormatChoice } from "./disk-format.ts";
import { duration, parseDuration } from "./duration.ts";
import type { API_VERSION } from "./group.ts";
import { parseQuantity, quantity } from "./quantity.ts";
import type { VMRestoreStatus } from "./vm-restore-status.ts";

const byName = { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"] };

const snapshotSelector = z
  .object({
    id: z
      .string()
      .regex(/^[0-9a-f]{8,64}$/)
      .max(64)
      .optional()
      .describe("A snapshot's id, or at least its first 8 hex digits."),
    latest: z
      .object({
        host: z.string().min(1).max(253).optional().describe("Only snapshots of this host."),
        path: z.string().min(1).max(4096).optional().describe("Only snapshots for which this path was backed up."),
        tags: z.array(z.string().min(1).max(253)).max(16).meta({ "x-kubernetes-list-type": "set" }).optional(),
        before: timestamp.optional().describe("Only snapshots made at or before this time."),
      })
      .optional()
      .describe("The newest snapshot that all of this is true of."),
  })
  .refine((value) => (value.id === undefined) !== (value.latest === undefined), "set exactly one of `id` and `latest`")
  .meta({
    "x-kubernetes-validations": [
      { rule: "has(self.id) != has(self.latest)", message: "set exactly one of `id` and `latest`" },
    ],
  });

const repositoryReference = z
  .object({
    name: objectName,
    namespace: dnsLabel
      .optional()
      .describe(
        "By default this object's. Another one's repository has to name this namespace in its `allowedNamespaces`.",
      ),
  })
  .describe("A BackupRepository.");

const OWN_SNAPSHOT =
  "an id is that of one repository: a disk from another one needs its own `snapshot` where `source.snapshot` is an `id`";

const source = z
  .object({
    repository: repositoryReference,
    snapshot: snapshotSelector,
    disks: z
      .array(
        z.object({
          name: dnsLabel.describe("The VM's volume."),
          path: z
            .string()
            .min(1)
            .max(4096)
            .regex(/^\/.*$/)
            .describe(
              "The disk's file in the snapshot, absolute. May be a pattern that one file fits: `*` and `?` within a name, `**` for directories in between.",
            ),
          format: diskFormatChoice
            .default("Auto")
            .describe(
              "What the file is. Auto: what its name and its content both say, and one file only. An image of several files (backing files, parents, extents) is opened where its format is named here; all of them are of this snapshot.",
            ),
          repository: repositoryReference
            .optional()
            .describe(
              "Where the disk comes from another repository than the others: VolSync keeps one for each claim.",
            ),
          snapshot: snapshotSelector
            .optional()
            .describe(
              "Where it comes from another snapshot. By default `source.snapshot`, chosen in the disk's own repository.",
            ),
        }),
      )
      .min(1)
      .max(64)
      .meta(byName)
      .optional()
      .describe(
        "Which files are the disks; by default `disks/<volume>.img`, or `.raw`, `.qcow2`, `.vmdk`, `.vhd` or `.vhdx`, beside the manifest; else the files that bear the name of a volume or of its claim, or lie in a directory that does, as VolSync's and K8up's do.",
      ),
  })
  .refine(
    ({ snapshot, disks }) =>
      snapshot.id === undefined ||
      (disks ?? []).every((disk) => disk.repository === undefined || disk.snapshot !== undefined),
    OWN_SNAPSHOT,
  )
  .meta({
    "x-kubernetes-validations": [
      {
        rule: "!has(self.snapshot.id) || !has(self.disks) || self.disks.all(disk, !has(disk.repository) || has(disk.snapshot))",
        message: OWN_SNAPSHOT,
      },
    ],
  });

/** `name` or `namespace/name` of a NetworkAttachmentDefinition, or a word that stands for something else. */
const networkName = z
  .string()
  .min(1)
  .max(317)
  .regex(/^(\*|([a-z0-9][-a-z0-9]*\/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$/);

const virtualMachine = z
  .object({
    name: dnsLabel.describe(
      "The machine to make. No machine of this name may exist, but for one that `replace` names.",
    ),
    manifest: z
      .object({
        from: z.enum(["Snapshot", "Inline"]).default("Snapshot"),
        template: z
          .record(z.string(), z.unknown())
          .meta({ "x-kubernetes-preserve-unknown-fields": true })
          .optional()
          .describe("With `Inline`: a whole VirtualMachine, for snapshots that hold only disks."),
      })
      .refine(
        (value) => (value.from === "Inline") === (value.template !== undefined),
        "`template` belongs to `from: Inline`",
      )
      .meta({
        "x-kubernetes-validations": [
          { rule: "(self.from == 'Inline') == has(self.template)", message: "`template` belongs to `from: Inline`" },
        ],
      })
      .prefault({}),
    macAddresses: z.enum(["Keep", "Regenerate"]).default("Keep"),
    firmwareIdentity: z.enum(["Keep", "Regenerate"]).default("Keep").describe("The machine's UUID and serial number."),
    networks: z
      .enum(["Keep", "Disconnect", "Map"])
      .default("Keep")
      .describe("Disconnect: without any interface. Map: into the networks that `networkMap` names."),
    networkMap: z
      .array(
        z.object({
          from: networkName.describe(
            "A network of the manifest: its NetworkAttachmentDefinition, `pod`, or `*` for all that no other entry names.",
          ),
          to: networkName.describe("A NetworkAttachmentDefinition, `pod`, or `none` to leave the interface out."),
        }),
      )
      .min(1)
      .max(64)
      .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["from"] })
      .optional()
      .describe(
        "With `networks: Map`. Every network of the machine has to be named, so that none is joined by oversight.",
      ),
    labels: z
      .enum(["Keep", "Drop"])
      .default("Keep")
      .describe(
        "Labels of the machine and of its pods, by which Services find them. Drop: for a clone beside the original.",
      ),
    serviceAccounts: z
      .enum(["Drop", "Keep"])
      .default("Drop")
      .describe(
        "Volumes with a ServiceAccount's token. Keep: what runs in the guest may act in the cluster as that account.",
      ),
    instancetypeRevisions: z
      .enum(["Keep", "Current"])
      .default("Keep")
      .describe("Keep: instancetype and preference as they were. Current: as they are in the cluster now."),
    runStrategy: z
      .enum(["Always", "RerunOnFailure", "Once", "Manual", "Halted"])
      .optional()
      .describe("By default what the manifest says."),
  })
  .refine(
    (value) => (value.networks === "Map") === (value.networkMap !== undefined),
    "`networkMap` belongs to `networks: Map`",
  )
  .meta({
    "x-kubernetes-validations": [
      {
        rule: "(self.networks == 'Map') == has(self.networkMap)",
        message: "`networkMap` belongs to `networks: Map`",
      },
    ],
  })
  .describe("What becomes of the machine.");

const replace = z
  .object({
    confirmUid: z
      .string()
      .regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
      .max(36)
      .describe(
        "The `metadata.uid` of the VirtualMachine: what has the name and another uid is not touched. Cannot be changed once the media agent was made.",
      ),
    undo: z
      .boolean()
      .default(false)
      .describe(
        "Until the restore is completed: the restored machine is deleted, and the old one put back with the run strategy that it had, on its own disks. What was written since the replacement is lost. Cannot be taken back.",
      ),
  })
  .describe(
    "Takes the place of the existing VirtualMachine `virtualMachine.name`. It runs on until everything is ready for the restored one; then it is shut down, its manifest kept in a Secret, and it is deleted without its disks. Nothing ever deletes those but you: `status.replaced` lists them.",
  );

const claimSize = z.object({
  size: quantity.optional(),
  storageClassName: objectName.optional().describe("By default the cluster's default class."),
});

const resourceList = z.record(z.string().max(253), z.string().max(64)).meta({ maxProperties: 16 }).optional();

const mediaAgent = z.object({
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

const launch = z.object({
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

const targetClaim = {
  storageClassName: objectName.optional().describe("By default the cluster's default class."),
  volumeMode: z.enum(["Filesystem", "Block"]).optional(),
  accessMode: z.enum(["ReadWriteOnce", "ReadWriteMany"]).optional(),
};

const trial = z
  .object({
    period: duration.default("0s").describe("Counted from when the guest is ready on the target."),
    onExpiry: z
      .enum(["Commit", "RollBack", "Wait"])
      .default("Commit")
      .describe(
        "What becomes of it then, unless `decision` says so before. A guest that never got ready on its target is not committed by time alone.",
      ),
    decision: z
      .enum(["Commit", "RollBack"])
      .optional()
      .describe(
        "Yours, at any time until it is committed. RollBack: the machine is restarted from the media agent, and what it wrote since cutover is lost to it. Takes back a cutover under way, too.",
      ),
  })
  .refine(
    ({ onExpiry, period }) => onExpiry !== "RollBack" || parseDuration(period) > 0,
    "a trial that ends with RollBack needs a `period`",
  )
  .meta({
    "x-kubernetes-validations": [
      {
        rule: "self.onExpiry != 'RollBack' || duration(self.period) > duration('0s')",
        message: "a trial that ends with RollBack needs a `period`",
      },
    ],
  })
  .describe(
    "The machine is on trial on its target after cutover: for so long the media agent is kept as it was then, to go back to. Without it the media agent goes at once.",
  );

const relocation = z
  .object({
    strategy: z
      .enum(["Auto", "LiveMigration", "Copy", "None"])
      .default("Auto")
      .describe(
        "How the disks get to the target. LiveMigration: KubeVirt moves the running machine to them, without a restart. Copy: a Job copies them, and the machine restarts once at cutover. Auto: LiveMigration where the cluster and the machine can and the repository is fast enough, else, or after two attempts that failed, Copy. None: a live mount, they stay in the backup.",
      ),
    target: z
      .object({
        ...targetClaim,
        perDisk: z
          .array(
            z.object({
              name: dnsLabel,
              ...targetClaim,
              claimName: objectName
                .optional()
                .describe("By default `<machine>-<disk>`; with `replace`, and the first 8 digits of its uid after it."),
              size: quantity
                .optional()
                .describe("By default the disk's size, and room for a filesystem where there is one."),
            }),
          )
          .max(64)
          .meta(byName)
          .optional(),
      })
      .prefault({}),
    begin: z
      .enum(["GuestReady", "Immediately", "Manual", "At"])
      .default("GuestReady")
      .describe("When copying begins, once the guest is ready. Manual: when this is changed to one of the others."),
    beginAt: timestamp.optional().describe("With `begin: At`."),
    paused: z
      .boolean()
      .default(false)
      .describe(
        "Copying stops and what was copied is kept; the machine runs on from the media agent, and is not cut over. Set to false, copying goes on where it stopped. A live migration is called off, and begins anew.",
      ),
    cutover: z
      .object({
        when: z
          .enum(["Automatic", "Manual", "At"])
          .default("Manual")
          .describe(
            "When the machine is restarted on the target, with Copy. Manual: when this is changed to one of the others. A live migration restarts nothing and waits for nobody.",
          ),
        at: timestamp.optional(),
        verify: z.boolean().default(true).describe("Compare checksums before the machine starts from the target."),
      })
      .refine((value) => (value.when === "At") === (value.at !== undefined), "`at` belongs to `when: At`")
      .meta({
        "x-kubernetes-validations": [
          { rule: "(self.when == 'At') == has(self.at)", message: "`at` belongs to `when: At`" },
        ],
      })
      .prefault({}),
    trial: trial.optional(),
    bandwidthLimit: quantity
      .refine((value) => (parseQuantity(value) ?? 0) > 0, "must be above 0: to stop copying, set `paused`")
      .meta({
        "x-kubernetes-validations": [
          { rule: "self.matches('[1-9]')", message: "must be above 0: to stop copying, set `paused`" },
        ],
      })
      .optional()
      .describe(
        "Bytes a second for copying, e.g. 200Mi; may be changed at any time. While the machine stands still for cutover nothing is limited. A live migration has KubeVirt's own limits: Auto copies where this is set.",
      ),
  })
  .refine((value) => (value.begin === "At") === (value.beginAt !== undefined), "`beginAt` belongs to `begin: At`")
  .meta({
    "x-kubernetes-validations": [
      { rule: "(self.begin == 'At') == has(self.beginAt)", message: "`beginAt` belongs to `begin: At`" },
    ],
  });

const liveMount = z
  .object({
    expiresAfter: duration.optional().describe("Counted from the machine's creation. By default it never expires."),
    onExpiry: z
      .enum(["Discard", "Keep"])
      .default("Keep")
      .describe("Discard: the machine and everything written to it is deleted. Keep: a warning only."),
  })
  .describe("With `relocation.strategy: None`.");

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
