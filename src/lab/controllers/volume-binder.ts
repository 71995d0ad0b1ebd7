import { mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseQuantity } from "../../api/quantity.ts";
import type { NodeTerms } from "../../operator/runtime/placement.ts";
import {
  type LabObject,
  STORAGE_CLASSES,
  type StorageClass,
  VOLUME_CLAIMS,
  VOLUMES,
  type Volume,
  type VolumeClaim,
} from "./kinds.ts";
import { type LabContext, ownKey, runLabController } from "./lab-controller.ts";

/** Storage classes with this provisioner get folders of this machine. */
export const FOLDER_PROVISIONER = "lab.vmrestore.io/folder";
/** The raw file that stands for the block device of a claim with `volumeMode: Block`. */
export const BLOCK_FILE = "block.img";
const PROVISIONED_BY = "pv.kubernetes.io/provisioned-by";
/** On a claim whose class waits for its first consumer: the node that a pod with it was given. */
export const SELECTED_NODE = "volume.kubernetes.io/selected-node";

/**
 * Binds claims to volumes, makes volumes for the lab's own storage classes, and releases or removes what is no longer claimed. A
 * volume is a folder below `directory`; its size is not enforced.
 */
export async function runVolumeBinder(context: LabContext, directory: string, signal: AbortSignal): Promise<void> {
  const claims = {
    name: "volume-claims",
    watches: [
      { type: VOLUME_CLAIMS, keys: ownKey },
      { type: VOLUMES, keys: (object: LabObject) => claimKeys(object as Volume) },
    ],
    reconcile: (namespace: string, name: string) => reconcileClaim(context, directory, namespace, name),
  };
  const volumes = {
    name: "volumes",
    watches: [
      { type: VOLUMES, keys: ownKey },
      { type: VOLUME_CLAIMS, keys: (object: LabObject) => volumeKeys(object as VolumeClaim) },
    ],
    reconcile: (_namespace: string, name: string) => reconcileVolume(context, directory, name),
  };
  await Promise.all([runLabController(claims, context, signal), runLabController(volumes, context, signal)]);
}

function claimKeys({ spec }: Volume): string[] {
  return spec.claimRef === undefined ? [] : [`${spec.claimRef.namespace}/${spec.claimRef.name}`];
}

function volumeKeys({ spec }: VolumeClaim): string[] {
  return spec.volumeName === undefined ? [] : [`/${spec.volumeName}`];
}

async function reconcileClaim(
  context: LabContext,
  directory: string,
  namespace: string,
  name: string,
): Promise<number | undefined> {
  const { cluster } = context;
  const claim = await cluster.get(VOLUME_CLAIMS, namespace, name);
  if (claim === undefined || claim.metadata.deletionTimestamp !== undefined) return undefined;
  const volume = (await findVolume(context, claim)) ?? (await provision(context, directory, claim));
  if (volume === undefined) {
    if (claim.status?.phase === undefined) await setClaimStatus(context, claim, "Pending", undefined);
    return undefined;
  }
  if (volume.spec.claimRef?.uid !== claim.metadata.uid) {
    const claimRef = { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, name, uid: claim.metadata.uid };
    await cluster.replace(VOLUMES, { ...volume, spec: { ...volume.spec, claimRef } } as never);
  }
  if (claim.spec.volumeName === undefined) {
    await cluster.replace(VOLUME_CLAIMS, {
      ...claim,
      spec: { ...claim.spec, volumeName: volume.metadata.name },
    } as never);
  }
  const wanted = parseQuantity(claim.spec.resources?.requests?.storage ?? "0") ?? 0;
  const isGrown =
    wanted > (parseQuantity(volume.spec.capacity.storage) ?? 0) &&
    volume.metadata.annotations?.[PROVISIONED_BY] === FOLDER_PROVISIONER;
  const capacity = isGrown ? (claim.spec.resources?.requests?.storage ?? "0") : volume.spec.capacity.storage;
  if (claim.status?.phase !== "Bound" || claim.status.capacity?.storage !== capacity) {
    await setClaimStatus(context, claim, "Bound", {
      accessModes: volume.spec.accessModes,
      capacity: { storage: capacity },
    });
  }
  return undefined;
}

/** The volume that the claim names, or one that names the claim. */
async function findVolume({ cluster }: LabContext, claim: VolumeClaim): Promise<Volume | undefined> {
  const isFor = ({ spec }: Volume): boolean =>
    spec.claimRef === undefined ||
    (spec.claimRef.namespace === claim.metadata.namespace &&
      spec.claimRef.name === claim.metadata.name &&
      (spec.claimRef.uid === undefined || spec.claimRef.uid === claim.metadata.uid));
  if (claim.spec.volumeName !== undefined) {
    const named = await cluster.get(VOLUMES, undefined, claim.spec.volumeName);
    return named !== undefined && isFor(named) ? named : undefined;
  }
  const all = await cluster.list(VOLUMES, undefined);
  return all.find(
    (volume) =>
      volume.spec.claimRef !== undefined &&
      isFor(volume) &&
      (volume.spec.storageClassName ?? "") === (claim.spec.storageClassName ?? ""),
  );
}

async function storageClassOf({ cluster }: LabContext, claim: VolumeClaim): Promise<StorageClass | undefined> {
  const { storageClassName } = claim.spec;
  if (storageClassName !== undefined) return cluster.get(STORAGE_CLASSES, undefined, storageClassName);
  const classes = await cluster.list(STORAGE_CLASSES, undefined);
  return classes.find(
    ({ metadata }) => metadata.annotations?.["storageclass.kubernetes.io/is-default-class"] === "true",
  );
}

async function provision(context: LabContext, directory: string, claim: VolumeClaim): Promise<Volume | undefined> {
  if (claim.spec.volumeName !== undefined || claim.spec.storageClassName === "") return undefined;
  const storageClass = await storageClassOf(context, claim);
  if (storageClass?.provisioner !== FOLDER_PROVISIONER) return undefined;
  const isNodes = storageClass.volumeBindingMode === "WaitForFirstConsumer";
  const node = claim.metadata.annotations?.[SELECTED_NODE];
  if (isNodes && node === undefined) return undefined;
  const name = `pvc-${claim.metadata.uid}`;
  const path = join(directory, name);
  await mkdir(path, { recursive: true });
  const storage = claim.spec.resources?.requests?.storage ?? "1Gi";
  if (claim.spec.volumeMode === "Block") {
    const file = await open(join(path, BLOCK_FILE), "a");
    await file.truncate(parseQuantity(storage) ?? 0).finally(() => file.close());
  }
  await context.cluster.create(VOLUMES, {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name, annotations: { [PROVISIONED_BY]: FOLDER_PROVISIONER } },
    spec: {
      capacity: { storage },
      accessModes: claim.spec.accessModes ?? ["ReadWriteOnce"],
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? "Delete",
      storageClassName: storageClass.metadata.name,
      volumeMode: claim.spec.volumeMode ?? "Filesystem",
      claimRef: {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        namespace: claim.metadata.namespace,
        name: claim.metadata.name,
        uid: claim.metadata.uid,
      },
      ...(isNodes ? { nodeAffinity: { required: onlyOn(node ?? "") } } : {}),
      hostPath: { path, type: "Directory" },
    },
  });
  return context.cluster.get(VOLUMES, undefined, name);
}

/** What waits for its first consumer stands for a disk of the node that this one runs on. */
function onlyOn(node: string): NodeTerms {
  return {
    nodeSelectorTerms: [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: [node] }] }],
  };
}

async function setClaimStatus(
  context: LabContext,
  claim: VolumeClaim,
  phase: string,
  more: object | undefined,
): Promise<void> {
  const { name, namespace = "" } = claim.metadata;
  await context.cluster.applyStatus(VOLUME_CLAIMS, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name, namespace },
    status: { phase, ...more },
  });
}

async function reconcileVolume({ cluster }: LabContext, directory: string, name: string): Promise<number | undefined> {
  const volume = await cluster.get(VOLUMES, undefined, name);
  if (volume === undefined) return undefined;
  const { claimRef } = volume.spec;
  const claim =
    claimRef === undefined ? undefined : await cluster.get(VOLUME_CLAIMS, claimRef.namespace, claimRef.name);
  const isBound = claim !== undefined && claim.metadata.uid === claimRef?.uid;
  const phase = isBound ? "Bound" : claimRef?.uid === undefined ? "Available" : "Released";
  const isOurs = volume.metadata.annotations?.[PROVISIONED_BY] === FOLDER_PROVISIONER;
  // Told first: a volume that looks bound is protected from deletion.
  if (volume.status?.phase !== phase) {
    await cluster.applyStatus(VOLUMES, {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name },
      status: { phase },
    });
  }
  if (phase === "Released" && isOurs && volume.spec.persistentVolumeReclaimPolicy === "Delete") {
    if (volume.metadata.deletionTimestamp === undefined) await cluster.delete(VOLUMES, volume);
    // Only what was made here is removed, whatever the object says.
    await rm(join(directory, name), { recursive: true, force: true });
  }
  return undefined;
}
