import { createHash } from "node:crypto";
import * as z from "zod";
import type { VMRestore, VMRestoreSpec } from "../../api/vm-restore.ts";
import type { VirtualMachine } from "../kinds.ts";
import { restoreLabels } from "./names.ts";

type Fields = Record<string, unknown>;

/** Kept of `spec.template.spec`. Volumes, networks, devices and firmware are gone through one by one. */
const TEMPLATE_FIELDS = [
  "architecture",
  "hostname",
  "subdomain",
  "terminationGracePeriodSeconds",
  "evictionStrategy",
  "startStrategy",
  "livenessProbe",
  "readinessProbe",
  "dnsPolicy",
  "dnsConfig",
  "nodeSelector",
  "tolerations",
  "affinity",
  "topologySpreadConstraints",
  "accessCredentials",
];
const DOMAIN_FIELDS = [
  "machine",
  "cpu",
  "memory",
  "resources",
  "clock",
  "features",
  "chassis",
  "ioThreadsPolicy",
  "ioThreads",
];
const DEVICE_FIELDS = [
  "rng",
  "tpm",
  "watchdog",
  "inputs",
  "sound",
  "video",
  "autoattachGraphicsDevice",
  "autoattachInputDevice",
  "autoattachMemBalloon",
  "autoattachPodInterface",
  "autoattachSerialConsole",
  "autoattachVSOCK",
  "blockMultiQueue",
  "networkInterfaceMultiqueue",
  "disableHotplug",
  "logSerialConsole",
  "useVirtioTransitional",
];
/** Volumes that refer to nothing but the machine's own namespace, and to no other claim. */
const OTHER_VOLUMES = [
  "cloudInitNoCloud",
  "cloudInitConfigDrive",
  "sysprep",
  "configMap",
  "secret",
  "containerDisk",
  "emptyDisk",
];
/** Without these PCI addresses move, and guests rename their devices. */
const TEMPLATE_ANNOTATIONS = ["kubevirt.io/pci-topology-version", "kubevirt.io/pci-interface-slot-count"];
/** The namespace of the UUIDs that KubeVirt makes from the name of a machine that has none. */
const LEGACY_UUID_NAMESPACE = "6a1a24a1-4061-4607-8bf4-a3963d0c5895";

const record = z.record(z.string(), z.unknown());
const named = z.looseObject({ name: z.string().max(63) });
const manifestSchema = z.looseObject({
  apiVersion: z.string().regex(/^kubevirt\.io\//),
  kind: z.literal("VirtualMachine"),
  metadata: z.looseObject({ name: z.string().min(1).max(253), labels: z.record(z.string(), z.string()).optional() }),
  spec: z.looseObject({
    runStrategy: z.enum(["Always", "RerunOnFailure", "Once", "Manual", "Halted", "WaitAsReceiver"]).optional(),
    running: z.boolean().optional(),
    instancetype: record.optional(),
    preference: record.optional(),
    template: z.looseObject({
      metadata: z
        .looseObject({
          labels: z.record(z.string(), z.string()).optional(),
          annotations: z.record(z.string(), z.string()).optional(),
        })
        .optional(),
      spec: z.looseObject({
        domain: z.looseObject({
          firmware: record.optional(),
          devices: z
            .looseObject({ disks: z.array(named).max(256).optional(), interfaces: z.array(named).max(64).optional() })
            .optional(),
        }),
        networks: z.array(named).max(64).optional(),
        volumes: z.array(named).max(256).optional(),
      }),
    }),
  }),
});
type SourceManifest = z.infer<typeof manifestSchema>;

export type Recreated =
  | { readonly machine: VirtualMachine; readonly leftOut: readonly string[] }
  | { readonly reason: string; readonly problem: string };

/**
 * The VirtualMachine as it is made anew. A manifest out of a backup is hostile input, written with somebody else's rights: only
 * known fields are taken over, never a host's devices, paths or another claim.
 *
 * @param claims the claim of each restored disk, by volume name
 */
export function recreate(
  restore: VMRestore,
  spec: VMRestoreSpec,
  manifest: unknown,
  claims: ReadonlyMap<string, string>,
): Recreated {
  const parsed = manifestSchema.safeParse(manifest);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return {
      reason: "InvalidManifest",
      problem: `The manifest is no VirtualMachine: ${issue?.path.join(".")}: ${issue?.message}. Give one with spec.virtualMachine.manifest.from: Inline.`,
    };
  }
  const source = parsed.data;
  const template = source.spec.template;
  const volumeNames = new Set((template.spec.volumes ?? []).map(({ name }) => name));
  const missing = [...claims.keys()].filter((name) => !volumeNames.has(name));
  if (missing.length > 0) {
    return {
      reason: "ManifestMismatch",
      problem: `The manifest has no volume ${missing.join(", ")}. Name the disks in spec.source.disks as its volumes are named.`,
    };
  }
  const leftOut: string[] = [];
  const volumes = keepVolumes(template.spec.volumes ?? [], claims, leftOut);
  const kept = new Set(volumes.map(({ name }) => name));
  note(leftOut, "template.spec", template.spec, [...TEMPLATE_FIELDS, "domain", "networks", "volumes"]);
  note(leftOut, "domain", template.spec.domain, [...DOMAIN_FIELDS, "devices", "firmware"]);
  note(leftOut, "devices", template.spec.domain.devices ?? {}, [...DEVICE_FIELDS, "disks", "interfaces"]);
  const machine: VirtualMachine = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: {
      name: spec.virtualMachine.name,
      namespace: restore.metadata.namespace ?? "",
      labels: { ...keepLabels(source.metadata.labels), ...restoreLabels(restore) },
    },
    spec: {
      runStrategy: spec.virtualMachine.runStrategy ?? runStrategyOf(source),
      ...matcher("instancetype", source.spec.instancetype),
      ...matcher("preference", source.spec.preference),
      template: {
        metadata: {
          labels: { ...keepLabels(template.metadata?.labels), ...restoreLabels(restore) },
          annotations: pick(template.metadata?.annotations ?? {}, TEMPLATE_ANNOTATIONS),
        },
        spec: {
          ...pick(template.spec, TEMPLATE_FIELDS),
          domain: {
            ...pick(template.spec.domain, DOMAIN_FIELDS),
            firmware: firmware(source, spec),
            devices: devices(source, spec, kept, claims),
          },
          ...(spec.virtualMachine.networks === "Keep"
            ? { networks: (template.spec.networks ?? []).map(keepNetwork) }
            : {}),
          volumes,
        },
      },
    },
  };
  return { machine, leftOut };
}

function keepVolumes(
  volumes: readonly z.infer<typeof named>[],
  claims: ReadonlyMap<string, string>,
  leftOut: string[],
) {
  return volumes.flatMap((volume) => {
    const claimName = claims.get(volume.name);
    if (claimName !== undefined) return [{ name: volume.name, persistentVolumeClaim: { claimName } }];
    const kept = pick(volume, OTHER_VOLUMES);
    if (Object.keys(kept).length === 1) return [{ name: volume.name, ...kept }];
    leftOut.push(`volume ${volume.name}`);
    return [];
  });
}

function devices(
  source: SourceManifest,
  spec: VMRestoreSpec,
  kept: ReadonlySet<string>,
  claims: ReadonlyMap<string, string>,
): Fields {
  const given = source.spec.template.spec.domain.devices ?? {};
  const connected = spec.virtualMachine.networks === "Keep";
  return {
    ...pick(given, DEVICE_FIELDS),
    ...(connected ? {} : { autoattachPodInterface: false }),
    disks: (given.disks ?? [])
      .filter(({ name }) => kept.has(name))
      .map((disk) =>
        claims.has(disk.name) ? restoredDisk(disk) : pick(disk, ["name", "disk", "cdrom", "serial", "bootOrder"]),
      ),
    interfaces: connected
      ? (given.interfaces ?? []).map((nic) =>
          pick(nic, [
            "name",
            "model",
            "masquerade",
            "bridge",
            "sriov",
            "binding",
            "ports",
            "bootOrder",
            "pciAddress",
            ...(spec.virtualMachine.macAddresses === "Keep" ? ["macAddress"] : []),
          ]),
        )
      : [],
  };
}

/**
 * `cache: none` makes QEMU see an error of the storage as it happens, so that `errorPolicy: stop` pauses the guest instead of failing
 * its disk. A LUN needs a SCSI device behind it, which a file is not.
 */
function restoredDisk(disk: Fields): Fields {
  const bus = (disk.disk ?? disk.lun) as Fields | undefined;
  return {
    ...pick(disk, ["name", "serial", "bootOrder", "dedicatedIOThread", "blockSize", "tag"]),
    disk: pick(bus ?? {}, ["bus", "pciAddress"]),
    cache: "none",
    errorPolicy: "stop",
  };
}

function firmware(source: SourceManifest, spec: VMRestoreSpec): Fields {
  const given = source.spec.template.spec.domain.firmware ?? {};
  const kept = pick(given, ["bootloader", "acpi"]);
  if (spec.virtualMachine.firmwareIdentity === "Regenerate") return kept;
  return { ...kept, ...pick(given, ["serial"]), uuid: given.uuid ?? legacyUuid(source.metadata.name) };
}

function runStrategyOf(source: SourceManifest): string {
  const { runStrategy, running } = source.spec;
  if (runStrategy !== undefined && runStrategy !== "WaitAsReceiver") return runStrategy;
  return running === false ? "Halted" : "Always";
}

/** The revision belongs to the old machine and need not exist any more: KubeVirt pins the present one. */
function matcher(field: "instancetype" | "preference", value: Fields | undefined): Fields {
  return value === undefined ? {} : { [field]: pick(value, ["name", "kind"]) };
}

function keepNetwork(network: Fields): Fields {
  return pick(network, ["name", "pod", "multus"]);
}

/** Labels that steer this product are not the backup's to set. */
function keepLabels(labels: Record<string, string> | undefined): Record<string, string> {
  const entries = Object.entries(labels ?? {}).filter(
    ([key, value]) =>
      /^[-A-Za-z0-9_./]{1,317}$/.test(key) && /^[-A-Za-z0-9_.]{0,63}$/.test(value) && !key.includes("vmrestore.io/"),
  );
  return Object.fromEntries(entries.slice(0, 64));
}

function pick<T = unknown>(from: Record<string, T>, names: readonly string[]): Record<string, T> {
  const entries = names.flatMap((name) => {
    const value = Object.hasOwn(from, name) ? from[name] : undefined;
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(entries);
}

function note(leftOut: string[], where: string, given: Fields, known: readonly string[]): void {
  for (const name of Object.keys(given)) if (!known.includes(name)) leftOut.push(`${where}.${name}`.slice(0, 100));
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
