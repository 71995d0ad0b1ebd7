import * as z from "zod";
import { dnsLabel } from "../common.ts";
import { belongsTo } from "./belongs-to.ts";

/** `name` or `namespace/name` of a NetworkAttachmentDefinition, or a word that stands for something else. */
const networkName = z
  .string()
  .min(1)
  .max(317)
  .regex(/^(\*|([a-z0-9][-a-z0-9]*\/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$/);

/** The machine that is made. */
export const virtualMachine = z
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
      .meta(belongsTo("template", "from", "Inline"))
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
  .meta(belongsTo("networkMap", "networks", "Map"))
  .describe("What becomes of the machine.");

/** The machine whose place it takes. */
export const replace = z
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
