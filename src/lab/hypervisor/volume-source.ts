import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { parseQuantity } from "../../api/quantity.ts";
import { errorCode } from "../../base/errors.ts";
import type { Cluster } from "../../operator/runtime/cluster.ts";
import { VOLUME_CLAIMS, VOLUMES, type VolumeClaim } from "../controllers/kinds.ts";
import { BLOCK_FILE } from "../controllers/volume-binder.ts";
import { HypervisorError } from "./errors.ts";
import type { Volume } from "./kinds.ts";
import { MachineRefusedError, type ResolvedSource } from "./machine-spec.ts";

/** KubeVirt's default for what a filesystem takes for itself: disks on claims with a filesystem are made smaller by this. */
const FILESYSTEM_OVERHEAD = 0.055;
const DISK_FILE = "disk.img";
const MIB = 1 << 20;

/** A volume is not there yet; it may come. */
export class VolumeNotReadyError extends HypervisorError {
  /** KubeVirt's reason of the condition. */
  readonly reason: "FailedPvcNotFound" | "PvcNotBound";

  constructor(reason: "FailedPvcNotFound" | "PvcNotBound", message: string) {
    super("LAB_VOLUME_NOT_READY", message);
    this.reason = reason;
  }
}

export interface VolumeFound extends ResolvedSource {
  readonly claim: VolumeClaim;
}

/**
 * Where the disk on a volume lies. As KubeVirt does, a `disk.img` is made on an empty folder; on an NFS export nothing is: it is
 * QEMU itself that reads there, and no kernel mounts it.
 */
export async function findVolume(cluster: Cluster, namespace: string, volume: Volume): Promise<VolumeFound> {
  const claimName = volume.persistentVolumeClaim?.claimName ?? volume.dataVolume?.name;
  if (claimName === undefined) {
    const kind = Object.keys(volume).find((field) => field !== "name") ?? "nothing";
    throw new MachineRefusedError(`volume ${volume.name} is a ${kind}; the lab attaches claims only`);
  }
  const claim = await cluster.get(VOLUME_CLAIMS, namespace, claimName);
  if (claim === undefined)
    throw new VolumeNotReadyError("FailedPvcNotFound", `PVC ${namespace}/${claimName} does not exist`);
  const { volumeName } = claim.spec;
  const persistent = volumeName === undefined ? undefined : await cluster.get(VOLUMES, undefined, volumeName);
  if (persistent === undefined || claim.status?.phase !== "Bound") {
    throw new VolumeNotReadyError("PvcNotBound", `PVC ${namespace}/${claimName} is not bound`);
  }
  const { nfs, hostPath, volumeMode } = persistent.spec;
  if (nfs !== undefined) {
    const source = { kind: "nfs", server: nfs.server, path: join(nfs.path, DISK_FILE) } as const;
    return { source, canBypassCache: true, claim };
  }
  if (hostPath === undefined) throw new MachineRefusedError(`the lab has no volumes of the kind of ${volumeName}`);
  const isBlock = volumeMode === "Block";
  const path = join(hostPath.path, isBlock ? BLOCK_FILE : DISK_FILE);
  if (!isBlock) await makeDisk(path, parseQuantity(persistent.spec.capacity.storage) ?? 0);
  return { source: { kind: "file", path }, canBypassCache: await canBypassCache(path), claim };
}

async function makeDisk(path: string, capacity: number): Promise<void> {
  try {
    const file = await open(path, "wx", 0o660);
    await file.truncate(Math.floor((capacity * (1 - FILESYSTEM_OVERHEAD)) / MIB) * MIB).finally(() => file.close());
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
  }
}

/** As KubeVirt finds out whether `cache: none` can be used. */
async function canBypassCache(path: string): Promise<boolean> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_DIRECT);
    await file.close();
    return true;
  } catch {
    return false;
  }
}
