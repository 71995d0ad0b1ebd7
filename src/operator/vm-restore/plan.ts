import * as z from "zod";
import { type AgentConfig, agentConfig, backendConfig } from "../../api/agent-config.ts";
import type { BootProfile } from "../../api/boot-profile.ts";
import { dnsLabel, objectName } from "../../api/common.ts";
import { WANTED_FORMATS } from "../../api/disk-format.ts";
import { LABELS } from "../../api/group.ts";
import type { Inspection, InspectionRequest } from "../../api/inspection.ts";
import { type VMRestore, type VMRestoreSpec, vmRestoreSpec } from "../../api/vm-restore.ts";
import type { RepositoryMount } from "../backup-repository/mount.ts";
import type { Secret } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import { diskVolumes } from "./manifest/volumes.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import { cacheSize, overlaySize, usableCache } from "./sizing.ts";

const plan = z.object({
  /** The name that the machine gets. */
  machine: dnsLabel,
  snapshot: z.object({ id: z.string(), time: z.string(), host: z.string() }),
  disks: z.array(z.object({ name: dnsLabel, size: z.int().positive(), path: z.string().optional() })).min(1),
  mount: z.object({
    backend: backendConfig.default({ local: {} }),
    secretName: z.string(),
    claimName: z.string().optional(),
    path: z.string().optional(),
    serviceAccountName: z.string().optional(),
  }),
  overlay: z.object({ bytes: z.int().positive(), storageClassName: z.string().optional() }),
  cache: z.object({ bytes: z.int().positive(), storageClassName: z.string().optional() }),
  /** The name that the machine had when it was backed up. */
  backedUpAs: z.string().optional(),
  hasProfile: z.boolean(),
});

/**
 * What was decided when the media agent was made, kept in a Secret of the operator's namespace. It is written once and never
 * changed: whatever becomes of the repository or the spec, the agent serves this snapshot with these sizes.
 */
export type Plan = z.infer<typeof plan>;

/** What the status has room for. */
const HOST_LIMIT = 253;
const FILES = { plan: "plan.json", config: "config.json", profile: "profile.json" } as const;
/** The one media agent of a restore; a StatefulSet of one replica never runs two. */
export const EPOCH = 1;

export type Planned = { readonly plan: Plan } | { readonly reason: string; readonly problem: string };

/** Sizes and facts from what was found in the backup; or what stands in the way. */
export function makePlan(
  spec: VMRestoreSpec,
  found: NonNullable<Inspection["snapshot"]>,
  mount: RepositoryMount,
  hasProfile: boolean,
): Planned {
  if (found.disks.length === 0) {
    return {
      reason: "NoDisks",
      problem: "The snapshot holds no disk that the manifest names. Name the disks in spec.source.disks.",
    };
  }
  const odd = found.disks.find(({ name }) => !dnsLabel.safeParse(name).success);
  if (odd !== undefined) {
    return {
      reason: "InvalidDiskName",
      problem: `Disk ${JSON.stringify(odd.name)} cannot be a volume's name: only lower-case letters, digits and \`-\` are allowed. Name the disks in spec.source.disks.`,
    };
  }
  const diskBytes = found.disks.reduce((sum, { size }) => sum + size, 0);
  const overlay = overlaySize(spec.mediaAgent.overlay.size, diskBytes);
  if ("problem" in overlay) return { reason: "OverlayTooSmall", problem: overlay.problem };
  const cache = cacheSize(spec.mediaAgent.cache.size, found.dataBytes);
  if ("problem" in cache) return { reason: "CacheTooSmall", problem: cache.problem };
  const overlayClass = overlayClassName(spec);
  const cacheClass = spec.mediaAgent.cache.storageClassName;
  return {
    plan: {
      machine: spec.virtualMachine.name,
      snapshot: { id: found.id, time: found.time, host: found.host.slice(0, HOST_LIMIT) },
      disks: found.disks.map(({ name, size, path }) => ({ name, size, path })),
      mount: { ...mount },
      overlay: { bytes: overlay.bytes, ...(overlayClass === undefined ? {} : { storageClassName: overlayClass }) },
      cache: { bytes: cache.bytes, ...(cacheClass === undefined ? {} : { storageClassName: cacheClass }) },
      // Whatever else it may be, it has to be able to name a VMProfile.
      ...(objectName.safeParse(found.virtualMachine).success ? { backedUpAs: found.virtualMachine } : {}),
      hasProfile,
    },
  };
}

/** The overlay is as precious as the target: it lies in the target's class unless said otherwise. */
export function overlayClassName(spec: VMRestoreSpec): string | undefined {
  return spec.mediaAgent.overlay.storageClassName ?? spec.relocation.target.storageClassName;
}

/** What the inspection Job is asked to look for. */
export function selectorOf(spec: VMRestoreSpec): InspectionRequest {
  const { snapshot, disks } = spec.source;
  const { host, path, tags, before } = snapshot.latest ?? {};
  return {
    snapshot:
      snapshot.id === undefined
        ? {
            latest: {
              ...(host === undefined ? {} : { host }),
              ...(path === undefined ? {} : { path }),
              ...(tags === undefined ? {} : { tags }),
              ...(before === undefined ? {} : { before }),
            },
          }
        : { id: snapshot.id },
    ...(disks === undefined
      ? {}
      : { disks: disks.map(({ name, path, format }) => ({ name, path, format: WANTED_FORMATS[format] })) }),
    ...(disks === undefined && spec.virtualMachine.manifest.from === "Inline"
      ? { volumes: diskVolumes(spec.virtualMachine.manifest.template).slice(0, 64) }
      : {}),
  };
}

/** The Secret that holds the plan, the agent's configuration and the learned profile. */
export function planSecret(options: {
  readonly restore: VMRestore;
  readonly plan: Plan;
  readonly disks: NonNullable<Inspection["snapshot"]>["disks"];
  readonly profile: BootProfile | undefined;
  readonly repositoryUid: string;
  readonly settings: OperatorSettings;
}): Manifest {
  const { restore, plan: made, profile, settings } = options;
  const { namespace, name, uid } = restore.metadata;
  const { allowedClients } = vmRestoreSpec.parse(restore.spec).mediaAgent;
  const config: AgentConfig = agentConfig.parse({
    restore: { namespace: namespace ?? "", name, uid: uid ?? "" },
    epoch: EPOCH,
    repository: made.mount.backend,
    snapshot: { id: made.snapshot.id, pin: true },
    disks: options.disks.map((disk) => ({ name: disk.name, path: disk.path, format: disk.format, size: disk.size })),
    cache: { sizeBytes: usableCache(made.cache.bytes) },
    ...(allowedClients === undefined ? {} : { nfsClients: allowedClients }),
  });
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      name: restoreNames(restore, "").plan,
      namespace: settings.namespace,
      labels: { ...restoreLabels(restore), [LABELS.repositoryUid]: options.repositoryUid },
    },
    type: "Opaque",
    data: {
      [FILES.plan]: encode(made),
      [FILES.config]: encode(config),
      ...(profile === undefined ? {} : { [FILES.profile]: encode(profile) }),
    },
  };
}

/** The plan as it was written. Throws where the Secret holds none. */
export function readPlan(secret: Secret): Plan {
  return plan.parse(JSON.parse(Buffer.from(secret.data?.[FILES.plan] ?? "", "base64").toString()));
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64");
}
