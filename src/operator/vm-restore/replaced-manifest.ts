import { createHash } from "node:crypto";
import type { VMRestore } from "../../api/vm-restore.ts";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import type { Secret, VirtualMachine } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import { runStrategyOf } from "./machine-update.ts";
import { at, isRecord } from "./manifest/shape.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import { REPLACE_ANNOTATIONS } from "./observe-old.ts";
import { legacyUuid } from "./recreate.ts";
import { claimsOf, volumesOf } from "./served-claims.ts";

// The manifest of the machine whose place the restored one takes: how it is kept, and how the machine is made of it again.

const FILE = "virtualmachine.json";

type Replaced = NonNullable<VMRestoreStatus["replaced"]>;

/** Annotations and run strategy of a machine that is being shut down for its replacement. */
export function haltedFor(restore: VMRestore, machine: VirtualMachine) {
  return {
    annotations: {
      [REPLACE_ANNOTATIONS.replacing]: restore.metadata.uid,
      [REPLACE_ANNOTATIONS.runStrategy]: runStrategyOf(machine),
    },
    spec: { runStrategy: "Halted" },
  };
}

/** What takes that back. */
export function asBefore(machine: VirtualMachine) {
  return {
    annotations: { [REPLACE_ANNOTATIONS.replacing]: undefined, [REPLACE_ANNOTATIONS.runStrategy]: undefined },
    spec: { runStrategy: machine.metadata.annotations?.[REPLACE_ANNOTATIONS.runStrategy] ?? "Always" },
  };
}

/** The manifest as it is kept: as people would write it down, with the revisions that KubeVirt noted in the status. */
export function manifestOf(machine: VirtualMachine): Manifest {
  const { name, namespace, labels, annotations = {} } = machine.metadata;
  const {
    [REPLACE_ANNOTATIONS.replacing]: replacing,
    [REPLACE_ANNOTATIONS.runStrategy]: before,
    ...others
  } = annotations;
  const { running: _, ...spec } = machine.spec ?? {};
  const runStrategy = replacing === undefined ? runStrategyOf(machine) : (before ?? runStrategyOf(machine));
  return {
    apiVersion: machine.apiVersion,
    kind: machine.kind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(labels === undefined ? {} : { labels }),
      annotations: others,
    },
    spec: {
      ...spec,
      ...withRevision(machine, "instancetype", "instancetypeRef"),
      ...withRevision(machine, "preference", "preferenceRef"),
      runStrategy,
    },
  };
}

function withRevision(machine: VirtualMachine, field: "instancetype" | "preference", ref: string) {
  const matcher = machine.spec?.[field];
  if (!isRecord(matcher) || matcher.revisionName !== undefined) return {};
  const { name } = at(machine, "status", ref, "controllerRevisionRef");
  return typeof name === "string" ? { [field]: { ...matcher, revisionName: name } } : {};
}

/** A Secret, because user data may hold passwords. Nothing owns it: it stays for as long as people want it. */
export function manifestSecret(restore: VMRestore, machine: VirtualMachine): Manifest {
  const { name } = machine.metadata;
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      name: restoreNames(restore, name).replaced,
      namespace: restore.metadata.namespace ?? "",
      labels: restoreLabels(restore),
    },
    type: "Opaque",
    immutable: true,
    data: { [FILE]: Buffer.from(JSON.stringify(manifestOf(machine))).toString("base64") },
  };
}

/** What the status tells of it, before anything of the machine is changed. */
export function factsOf(secret: Secret, machine: VirtualMachine, uid: string): Replaced {
  return { uid, manifestSecret: secret.metadata.name, digest: digestOf(secret), claims: claimsOf(volumesOf(machine)) };
}

function digestOf(secret: Secret): string {
  return createHash("sha256").update(textOf(secret)).digest("hex");
}

function textOf({ data }: Secret): Buffer {
  return Buffer.from(data?.[FILE] ?? "", "base64");
}

/** What is kept, whoever wrote it; undefined where it is none. Only for comparing. */
export function keptManifest(secret: Secret): unknown {
  try {
    return JSON.parse(textOf(secret).toString());
  } catch {
    return undefined;
  }
}

/**
 * The machine to be made again of what is kept; undefined where that is not what this operator wrote down: whoever may write Secrets
 * shall not have machines made by it.
 *
 * Its disks are named as before, but it has no `dataVolumeTemplates`: of those KubeVirt would make empty disks where the old ones are
 * not found, and newer ones refuse a DataVolume that no machine owns.
 */
export function machineAgain(
  restore: VMRestore,
  secret: Secret | undefined,
  facts: Replaced | undefined,
): Manifest | undefined {
  if (secret === undefined || facts === undefined || digestOf(secret) !== facts.digest) return undefined;
  const kept = keptManifest(secret) as Manifest & Required<Pick<VirtualMachine, "spec">>;
  const { dataVolumeTemplates: _, template, ...spec } = kept.spec;
  const domain = template?.spec?.domain ?? {};
  const firmware = isRecord(domain.firmware) ? domain.firmware : {};
  const uuid = firmware.uuid ?? legacyUuid(kept.metadata.name);
  return {
    ...kept,
    metadata: {
      ...kept.metadata,
      annotations: { ...kept.metadata.annotations, [REPLACE_ANNOTATIONS.putBack]: restore.metadata.uid ?? "" },
    },
    spec: {
      ...spec,
      template: { ...template, spec: { ...template?.spec, domain: { ...domain, firmware: { ...firmware, uuid } } } },
    },
  };
}
