import { isDeepStrictEqual } from "node:util";
import * as z from "zod";
import { type AgentConfig, agentConfig, backendConfig, REPOSITORIES_LIMIT } from "../../api/agent-config.ts";
import type { BootProfile } from "../../api/boot-profile.ts";
import { dnsLabel, objectName } from "../../api/common.ts";
import { alsoReads, LABELS } from "../../api/group.ts";
import { type VMRestore, type VMRestoreSpec, vmRestoreSpec } from "../../api/vm-restore.ts";
import type { RepositoryMount } from "../backup-repository/mount.ts";
import type { Secret } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import { restoreLabels, restoreNames } from "./names.ts";
import { cacheSize, overlaySize, usableCache } from "./sizing.ts";
import type { Found, FoundSource } from "./source-step.ts";

const snapshot = z.object({ id: z.string(), time: z.string(), host: z.string() });
const mount = z.object({
  backend: backendConfig.default({ local: {} }),
  secretName: z.string(),
  claimName: z.string().optional(),
  path: z.string().optional(),
  serviceAccountName: z.string().optional(),
});

const plan = z.object({
  /** The name that the machine gets. */
  machine: dnsLabel,
  snapshot,
  /** Further snapshots that disks come from. `mount`: 0 for `mount`, from 1 on those of `otherMounts`. */
  otherSnapshots: z.array(snapshot.extend({ mount: z.int().nonnegative() })).optional(),
  disks: z
    .array(
      z.object({
        name: dnsLabel,
        size: z.int().positive(),
        path: z.string().optional(),
        /** Which snapshot it is of: 0 for `snapshot`, from 1 on those of `otherSnapshots`. */
        source: z.int().nonnegative().optional(),
      }),
    )
    .min(1),
  mount,
  otherMounts: z.array(mount).optional(),
  overlay: z.object({ bytes: z.int().positive(), storageClassName: z.string().optional() }),
  cache: z.object({ bytes: z.int().positive(), storageClassName: z.string().optional() }),
  /** What the backup's disks refer to, zeros left out. */
  dataBytes: z.int().nonnegative().optional(),
  /** The name that the machine had when it was backed up. */
  backedUpAs: z.string().optional(),
  hasProfile: z.boolean(),
  /** uid of the machine whose place it takes. */
  replaces: z.string().optional(),
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

type InspectedDisk = Found["disks"][number] & { readonly source: number };

export type Planned =
  | { readonly plan: Plan; readonly disks: readonly InspectedDisk[] }
  | { readonly reason: string; readonly problem: string };

/** Sizes and facts from what was found in the backup; or what stands in the way. */
export function makePlan(spec: VMRestoreSpec, sources: readonly FoundSource[], hasProfile: boolean): Planned {
  const disks = inOrder(
    spec,
    sources.flatMap(({ found }, source) => found.disks.map((disk) => ({ ...disk, source }))),
  );
  const [first, ...others] = sources;
  if (first === undefined || disks.length === 0) {
    return {
      reason: "NoDisks",
      problem: "The snapshot holds no disk that the manifest names. Name the disks in spec.source.disks.",
    };
  }
  const odd = disks.find(({ name }) => !dnsLabel.safeParse(name).success);
  if (odd !== undefined) {
    return {
      reason: "InvalidDiskName",
      problem: `Disk ${JSON.stringify(odd.name)} cannot be a volume's name: only lower-case letters, digits and \`-\` are allowed. Name the disks in spec.source.disks.`,
    };
  }
  const mounts = distinct(sources.map((source) => source.mount));
  if (mounts.length > REPOSITORIES_LIMIT) {
    return {
      reason: "TooManyRepositories",
      problem: `The disks come from ${mounts.length} repositories; one media agent reads ${REPOSITORIES_LIMIT} at most. Restore the machine with fewer, and the other disks by themselves.`,
    };
  }
  const overlay = overlaySize(
    spec.mediaAgent.overlay.size,
    disks.map(({ size }) => size),
  );
  if ("problem" in overlay) return { reason: "OverlayTooSmall", problem: overlay.problem };
  const dataBytes = sources.reduce((sum, { found }) => sum + found.dataBytes, 0);
  const cache = cacheSize(spec.mediaAgent.cache.size, dataBytes);
  if ("problem" in cache) return { reason: "CacheTooSmall", problem: cache.problem };
  const overlayClass = overlayClassName(spec);
  const cacheClass = spec.mediaAgent.cache.storageClassName;
  const { virtualMachine } = first.found;
  const made: Plan = {
    machine: spec.virtualMachine.name,
    snapshot: snapshotOf(first.found),
    ...(others.length === 0
      ? {}
      : {
          otherSnapshots: others.map((source) => ({
            ...snapshotOf(source.found),
            mount: mounts.findIndex((each) => isDeepStrictEqual(each, source.mount)),
          })),
        }),
    disks: disks.map(({ name, size, path, source }) => ({ name, size, path, ...(source === 0 ? {} : { source }) })),
    mount: { ...first.mount },
    ...(mounts.length === 1 ? {} : { otherMounts: mounts.slice(1).map((each) => ({ ...each })) }),
    overlay: { bytes: overlay.bytes, ...(overlayClass === undefined ? {} : { storageClassName: overlayClass }) },
    cache: { bytes: cache.bytes, ...(cacheClass === undefined ? {} : { storageClassName: cacheClass }) },
    dataBytes,
    // Whatever else it may be, it has to be able to name a VMProfile.
    ...(objectName.safeParse(virtualMachine).success ? { backedUpAs: virtualMachine } : {}),
    hasProfile,
    ...(spec.replace === undefined ? {} : { replaces: spec.replace.confirmUid }),
  };
  return { plan: made, disks };
}

/** As the spec names them; else as they were found. */
function inOrder(spec: VMRestoreSpec, disks: InspectedDisk[]): InspectedDisk[] {
  const place = ({ name }: InspectedDisk) => spec.source.disks?.findIndex((disk) => disk.name === name) ?? 0;
  return disks.sort((a, b) => place(a) - place(b));
}

function snapshotOf({ id, time, host }: Found): Plan["snapshot"] {
  return { id, time, host: host.slice(0, HOST_LIMIT) };
}

function distinct(mounts: readonly RepositoryMount[]): RepositoryMount[] {
  return mounts.filter((each, index) => mounts.findIndex((other) => isDeepStrictEqual(other, each)) === index);
}

/** What the status tells of each disk. */
export function diskFacts({ disks, otherSnapshots = [] }: Plan) {
  return disks.map(({ source = 0, ...disk }) => {
    const other = otherSnapshots[source - 1];
    return { ...disk, ...(other === undefined ? {} : { snapshot: other.id }) };
  });
}

/** The overlay is as precious as the target: it lies in the target's class unless said otherwise. */
export function overlayClassName(spec: VMRestoreSpec): string | undefined {
  return spec.mediaAgent.overlay.storageClassName ?? spec.relocation.target.storageClassName;
}

/** The Secret that holds the plan, the agent's configuration and the learned profile. */
export function planSecret(options: {
  readonly restore: VMRestore;
  readonly plan: Plan;
  readonly disks: readonly InspectedDisk[];
  readonly profile: BootProfile | undefined;
  /** Of the BackupRepositories that it reads. */
  readonly repositoryUids: readonly string[];
  readonly settings: OperatorSettings;
}): Manifest {
  const { restore, plan: made, profile, settings } = options;
  const { namespace, name, uid } = restore.metadata;
  const [firstUid = "", ...otherUids] = options.repositoryUids;
  const { allowedClients } = vmRestoreSpec.parse(restore.spec).mediaAgent;
  const config: AgentConfig = agentConfig.parse({
    restore: { namespace: namespace ?? "", name, uid: uid ?? "" },
    epoch: EPOCH,
    repository: made.mount.backend,
    snapshot: { id: made.snapshot.id, pin: true },
    ...(made.otherMounts === undefined ? {} : { otherRepositories: made.otherMounts.map(({ backend }) => backend) }),
    ...(made.otherSnapshots === undefined
      ? {}
      : { otherSnapshots: made.otherSnapshots.map(({ id, mount: repository }) => ({ id, repository })) }),
    disks: options.disks.map(({ name, path, format, size, source }) => ({
      ...{ name, path, format, size },
      ...(source === 0 ? {} : { snapshot: source }),
    })),
    cache: { sizeBytes: usableCache(made.cache.bytes) },
    ...(allowedClients === undefined ? {} : { nfsClients: allowedClients }),
  });
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      name: restoreNames(restore, "").plan,
      namespace: settings.namespace,
      labels: {
        ...restoreLabels(restore),
        [LABELS.repositoryUid]: firstUid,
        ...Object.fromEntries(otherUids.filter((uid) => uid !== firstUid).map((uid) => [alsoReads(uid), ""])),
      },
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
