import { createHash } from "node:crypto";
import type { VMRestore, VMRestoreSpec } from "../../api/vm-restore.ts";
import type { VirtualMachine } from "../kinds.ts";
import { type CarriedObjects, NOTHING_CARRIED, type RunningMachine } from "./manifest/carried-objects.ts";
import { DEVICE_FIELDS, DOMAIN_FIELDS, FIRMWARE_FIELDS } from "./manifest/domain-fields.ts";
import { type Networking, networkingOf } from "./manifest/networks.ts";
import { SCHEDULING_FIELDS } from "./manifest/scheduling-fields.ts";
import { at, LeftOut, takeFields, takeOver, text } from "./manifest/shape.ts";
import { parseManifest, type SourceManifest } from "./manifest/source-manifest.ts";
import { ACCESS_CREDENTIALS, RESOURCE_CLAIMS } from "./manifest/volume-fields.ts";
import { volumeDevices, volumesOf } from "./manifest/volumes.ts";
import { restoreLabels, restoreNames } from "./names.ts";

type Fields = Record<string, unknown>;

/** Without these PCI addresses move, and guests rename their devices. */
const PCI_ANNOTATIONS = ["kubevirt.io/pci-topology-version", "kubevirt.io/pci-interface-slot-count"];
/** What consoles show of a machine. Others may be orders to controllers or to the launcher pod. */
const SHOWN_ANNOTATIONS = ["description", "vm.kubevirt.io/os", "vm.kubevirt.io/flavor", "vm.kubevirt.io/workload"];
/** What the machine's own cluster keeps there, and nobody misses. */
const BOOKKEEPING = /^(kubectl\.kubernetes\.io|kubevirt\.io|kubemacpool\.io)\//;
const TEMPLATE_FIELDS = {
  architecture: text(16, /^[a-z0-9_]+$/),
  ...SCHEDULING_FIELDS,
  accessCredentials: ACCESS_CREDENTIALS,
  resourceClaims: RESOURCE_CLAIMS,
};
/** Looked at elsewhere, or replaced: no loss to be told of. */
const HANDLED = {
  spec: [
    "runStrategy",
    "running",
    "instancetype",
    "preference",
    "template",
    "dataVolumeTemplates",
    "updateVolumesStrategy",
  ],
  template: ["metadata", "spec"],
  templateSpec: ["domain", "networks", "volumes"],
  domain: ["devices", "firmware"],
  devices: ["disks", "interfaces", "filesystems"],
};
/** The namespace of the UUIDs that KubeVirt makes from the name of a machine that has none. */
const LEGACY_UUID_NAMESPACE = "6a1a24a1-4061-4607-8bf4-a3963d0c5895";

export type Recreated =
  | {
      readonly machine: VirtualMachine;
      /** What of the manifest was not taken over. */
      readonly leftOut: readonly string[];
      /** Whether KubeVirt keeps files of its firmware or TPM on a claim. */
      readonly keepsState: boolean;
      /** ControllerRevisions that it is pinned to: its own copies, by name, of those that it was made with. */
      readonly revisions: readonly { readonly name: string; readonly original: string }[];
    }
  | { readonly reason: string; readonly problem: string };

/**
 * The VirtualMachine as it is made anew. A manifest out of a backup is hostile input, written with somebody else's rights: only
 * known fields are taken over, never a node's paths, another claim or another pod's identity.
 *
 * @param claims the claim of each restored disk, by volume name
 * @param carried what else the snapshot tells of the machine
 */
export function recreate(
  restore: VMRestore,
  spec: VMRestoreSpec,
  manifest: unknown,
  claims: ReadonlyMap<string, string>,
  carried: CarriedObjects = NOTHING_CARRIED,
): Recreated {
  const source = parseManifest(manifest);
  if (typeof source === "string") {
    return {
      reason: "InvalidManifest",
      problem: `The manifest is no VirtualMachine: ${source}. Give one with spec.virtualMachine.manifest.from: Inline.`,
    };
  }
  const template = source.spec.template;
  const volumeNames = new Set((template.spec.volumes ?? []).map(({ name }) => name));
  const missing = [...claims.keys()].filter((name) => !volumeNames.has(name));
  if (missing.length > 0) {
    return {
      reason: "ManifestMismatch",
      problem: `The manifest has no volume ${missing.join(", ")}. Name the disks in spec.source.disks as its volumes are named.`,
    };
  }
  const leftOut = new LeftOut();
  const running = carried.running;
  const networking = networkingOf(source, spec, running?.macs ?? new Map(), leftOut);
  if ("problem" in networking) return { reason: "NetworkNotMapped", problem: networking.problem };
  const volumes = volumesOf(source, claims, spec, leftOut);
  const domain = domainOf(source, spec, running, networking, { volumes, claims }, leftOut);
  takeFields(without(source.spec, HANDLED.spec), {}, "spec", leftOut);
  takeFields(without(template, HANDLED.template), {}, "template", leftOut);
  const taken = takeFields(without(template.spec, HANDLED.templateSpec), TEMPLATE_FIELDS, "template.spec", leftOut);
  const labels = spec.virtualMachine.labels === "Keep";
  const instancetype = matcherOf("instancetype", source, restore, spec);
  const preference = matcherOf("preference", source, restore, spec);
  const machine: VirtualMachine = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: {
      name: spec.virtualMachine.name,
      namespace: restore.metadata.namespace ?? "",
      labels: { ...(labels ? keepLabels(source.metadata.labels, leftOut) : {}), ...restoreLabels(restore) },
      annotations: keepAnnotations(source.metadata.annotations, SHOWN_ANNOTATIONS, leftOut),
    },
    spec: {
      runStrategy: spec.virtualMachine.runStrategy ?? runStrategyOf(source),
      ...instancetype.spec,
      ...preference.spec,
      template: {
        metadata: {
          labels: { ...(labels ? keepLabels(template.metadata?.labels, leftOut) : {}), ...restoreLabels(restore) },
          annotations: keepAnnotations(
            { ...pick(running?.annotations ?? {}, PCI_ANNOTATIONS), ...template.metadata?.annotations },
            [...PCI_ANNOTATIONS, ...SHOWN_ANNOTATIONS],
            leftOut,
          ),
        },
        spec: {
          ...(running?.architecture === undefined ? {} : { architecture: running.architecture }),
          ...taken,
          domain,
          ...(networking.networks.length === 0 ? {} : { networks: networking.networks }),
          volumes,
        },
      },
    },
  };
  return {
    machine,
    leftOut: leftOut.paths,
    keepsState: keepsState(domain, preference.revision?.original, carried),
    revisions: [instancetype, preference].flatMap(({ revision }) => revision ?? []),
  };
}

function domainOf(
  source: SourceManifest,
  spec: VMRestoreSpec,
  running: RunningMachine | undefined,
  networking: Networking,
  { volumes, claims }: { volumes: readonly { name: string }[]; claims: ReadonlyMap<string, string> },
  leftOut: LeftOut,
): Fields {
  const { domain } = source.spec.template.spec;
  const kept = new Set(volumes.map(({ name }) => name));
  const devices = takeFields(without(domain.devices ?? {}, HANDLED.devices), DEVICE_FIELDS, "devices", leftOut);
  const isAlone = networking.interfaces.length === 0 && spec.virtualMachine.networks !== "Keep";
  return {
    ...(running?.machineType === undefined ? {} : { machine: { type: running.machineType } }),
    ...takeFields(without(domain, HANDLED.domain), DOMAIN_FIELDS, "domain", leftOut),
    firmware: firmwareOf(source, spec, running, leftOut),
    devices: {
      ...devices,
      ...(isAlone ? { autoattachPodInterface: false } : {}),
      ...volumeDevices(source, kept, claims, leftOut),
      interfaces: networking.interfaces,
    },
  };
}

function firmwareOf(
  source: SourceManifest,
  spec: VMRestoreSpec,
  running: RunningMachine | undefined,
  leftOut: LeftOut,
): Fields {
  const given = source.spec.template.spec.domain.firmware ?? {};
  const {
    uuid = running?.uuid,
    serial = running?.serial,
    ...kept
  } = takeFields(given, FIRMWARE_FIELDS, "firmware", leftOut);
  if (spec.virtualMachine.firmwareIdentity === "Regenerate") return kept;
  return { ...kept, ...(serial === undefined ? {} : { serial }), uuid: uuid ?? legacyUuid(source.metadata.name) };
}

function runStrategyOf(source: SourceManifest): string {
  const { runStrategy, running } = source.spec;
  if (typeof runStrategy === "string" && runStrategy !== "WaitAsReceiver") return runStrategy;
  return running === false ? "Halted" : "Always";
}

interface Matcher {
  /** The field of the new machine's spec. */
  readonly spec: Fields;
  /** The ControllerRevision that the machine was made with, and the name of the new machine's own copy. */
  readonly revision?: { readonly name: string; readonly original: string };
}

/**
 * The instancetype or preference, pinned to the revision that the machine was made with: a cluster's own may have changed since.
 * KubeVirt writes the revision's name into the spec, or, newer ones, into the status.
 */
function matcherOf(
  field: "instancetype" | "preference",
  source: SourceManifest,
  restore: VMRestore,
  { virtualMachine }: VMRestoreSpec,
): Matcher {
  const ignored = new LeftOut();
  const objectName = text(253, /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/);
  const shape = { name: objectName, kind: text(63), revisionName: objectName };
  const given = takeFields(source.spec[field] ?? {}, shape, field, ignored);
  const used = at(source.status?.[`${field}Ref`], "controllerRevisionRef").name;
  const { revisionName: original = takeOver(used, objectName, field, ignored), ...named } = given;
  if (named.name === undefined) return { spec: {} };
  if (virtualMachine.instancetypeRevisions === "Current" || typeof original !== "string")
    return { spec: { [field]: named } };
  const name = restoreNames(restore, virtualMachine.name).revision(original);
  return { spec: { [field]: { ...named, revisionName: name } }, revision: { name, original } };
}

/** A persistent TPM or EFI variable store, asked for by the machine or by its preference. */
function keepsState(domain: Fields, preferenceRevision: string | undefined, { objects }: CarriedObjects): boolean {
  const tpm = at(domain, "devices", "tpm");
  if (tpm.persistent === true && tpm.enabled !== false) return true;
  if (at(domain, "firmware", "bootloader", "efi").persistent === true) return true;
  const preference = objects.find(({ kind, name }) => kind === "ControllerRevision" && name === preferenceRevision);
  const preferred = at(preference?.content, "data", "spec");
  const preferredTpm = at(preferred, "devices", "preferredTPM");
  return preferredTpm.persistent === true || at(preferred, "firmware", "preferredEfi").persistent === true;
}

/** Labels that steer this product are not the backup's to set. */
function keepLabels(labels: Fields | null | undefined, leftOut: LeftOut): Record<string, string> {
  const kept: [string, string][] = [];
  for (const [key, value] of Object.entries(labels ?? {})) {
    const isOwn = key.includes("vmrestore.io/");
    const fits =
      /^[-A-Za-z0-9_./]{1,317}$/.test(key) && typeof value === "string" && /^[-A-Za-z0-9_.]{0,63}$/.test(value);
    if (fits && !isOwn && kept.length < 64) kept.push([key, value]);
    else if (!isOwn) leftOut.note(`label ${key}`);
  }
  return Object.fromEntries(kept);
}

function keepAnnotations(
  given: Fields | null | undefined,
  known: readonly string[],
  leftOut: LeftOut,
): Record<string, string> {
  const kept: [string, string][] = [];
  for (const [key, value] of Object.entries(given ?? {})) {
    const taken = known.includes(key) ? takeOver(value, text(1024), `annotation ${key}`, leftOut) : undefined;
    if (typeof taken === "string") kept.push([key, taken]);
    else if (!BOOKKEEPING.test(key)) leftOut.note(`annotation ${key}`);
  }
  return Object.fromEntries(kept);
}

function without(given: Fields, handled: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(given).filter(([name]) => !handled.includes(name)));
}

function pick(from: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(from).filter(([name]) => names.includes(name)));
}

/** RFC 9562 version 5. */
export function legacyUuid(name: string): string {
  const hash = createHash("sha1")
    .update(Buffer.from(LEGACY_UUID_NAMESPACE.replaceAll("-", ""), "hex"))
    .update(name)
    .digest()
    .subarray(0, 16);
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x50;
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  return hash.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
