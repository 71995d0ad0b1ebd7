import * as z from "zod";
import { dnsLabel, objectName, timestamp } from "../common.ts";
import { duration, parseDuration } from "../duration.ts";
import { parseQuantity, quantity } from "../quantity.ts";
import { belongsTo } from "./belongs-to.ts";
import { byName } from "./lists.ts";

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

/** How the disks get to primary storage, and when. */
export const relocation = z
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
      .meta(belongsTo("at", "when", "At"))
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
  .meta(belongsTo("beginAt", "begin", "At"));

/** What becomes of a machine whose disks stay in the backup. */
export const liveMount = z
  .object({
    expiresAfter: duration
      .optional()
      .describe(
        "Counted from the machine's creation, or from when it became a live mount. An end that an edit would put into the past is counted from the edit: none discards at once. By default it never expires.",
      ),
    onExpiry: z
      .enum(["Discard", "Keep"])
      .default("Keep")
      .describe("Discard: the machine and everything written to it is deleted. Keep: a warning only."),
  })
  .describe("With `relocation.strategy: None`.");
