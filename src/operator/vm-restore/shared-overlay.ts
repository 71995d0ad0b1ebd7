import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { overlayClass } from "./default-class.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { no, yes } from "./step.ts";

export const OVERLAY_FENCED = "OverlayFenced";

/** How provisioners of file systems that several nodes mount at once are named: the whole name, or its end behind a dot, a slash or a hyphen. */
const SHARED = [
  "nfs.csi.k8s.io",
  "nfs-subdir-external-provisioner",
  "nfs-client-provisioner",
  "nfsrwx",
  "nfs.manila.csi.openstack.org",
  "cephfs.manila.csi.openstack.org",
  "cephfs.csi.ceph.com",
  "efs.csi.aws.com",
  "fsx.csi.aws.com",
  "file.csi.azure.com",
  "azure-file",
  "smb.csi.k8s.io",
  "filestore.csi.storage.gke.io",
  "glusterfs",
  "beegfs.csi.netapp.com",
  "csi.juicefs.com",
  "spectrumscale.csi.ibm.com",
  "csi.weka.io",
  "csi.vastdata.com",
];

/**
 * A warning, before anything is made: what keeps two agents from one overlay is that a volume is attached to one node at a time, and such a
 * file system is not (docs/overlay.md, "Seal and epoch"). Nothing is refused: it is safe as long as nobody deletes a pod by force whose node may still run.
 */
export function tellSharedOverlay(observed: Observed): ConditionDraft[] {
  const found = overlayClass(observed);
  if (found === undefined) return [];
  if (isShared(found.provisioner ?? "")) {
    const message = `StorageClass ${found.metadata.name} (${found.provisioner}) is a file system that several nodes mount at once. Where a node is cut off, do not delete the media agent's pod by force before that node is known to be down: two agents would write to one overlay, and what the machine wrote would be lost. A class of volumes that are attached to one node at a time, in spec.mediaAgent.overlay.storageClassName, keeps the second one out.`;
    return [no(OVERLAY_FENCED, "SharedFileSystem", message)];
  }
  if (conditionOf(conditionsBefore(observed), OVERLAY_FENCED)?.status !== "False") return [];
  const message = `StorageClass ${found.metadata.name} is not known as a file system that several nodes mount at once.`;
  return [yes(OVERLAY_FENCED, "NotShared", message)];
}

function isShared(provisioner: string): boolean {
  return SHARED.some(
    (name) =>
      provisioner === name || (provisioner.endsWith(name) && "./-".includes(provisioner.at(-name.length - 1) ?? " ")),
  );
}
