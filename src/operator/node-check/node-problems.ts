import type { NodeReport } from "../../api/node-report.ts";

/** Why a node cannot mount what a media agent serves, and how that is mended. */
export interface NodeProblem {
  /** CamelCase. */
  readonly reason: string;
  /** What follows the node's name. */
  readonly what: string;
  readonly mend: string;
}

export const NFS_CLIENT_MEND = "Install the NFS client: `dnf install nfs-utils`, or `apt-get install nfs-common`.";

/** Everything that a report says against a node, what is to be mended first first. What is unknown is said against nobody. */
export function nodeProblems(report: NodeReport): NodeProblem[] {
  const problems: NodeProblem[] = [];
  // the kernel has no NFS client, or none for version 3
  if (report.nfs === "Missing" || report.nfsv3 === "Missing")
    problems.push({
      reason: "KernelLacksNfs",
      what: `has a kernel (${report.kernel}) without an NFS client for version 3`,
      mend: "Install the package of that kernel which holds the modules nfs and nfsv3, or another kernel.",
    });
  // no program that mounts NFS
  if (report.mountHelper === "Missing")
    problems.push({
      reason: "NfsClientMissing",
      what: "has no mount.nfs",
      mend: NFS_CLIENT_MEND,
    });
  // KubeVirt's launcher is one of container-selinux's container domains, whose way to nfs_t is this boolean
  if (report.selinux === "Enforcing" && report.virtUseNfs === "Off")
    problems.push({
      reason: "SelinuxForbidsNfs",
      what: "enforces SELinux without virt_use_nfs",
      mend: "Run `setsebool -P virt_use_nfs 1` there.",
    });
  // the kubelet mounts from the node's own network
  if (report.serviceNetwork === "Unreachable")
    problems.push({
      reason: "NetworkUnreachable",
      what: `does not reach Services from its own network (${report.serviceNetworkError ?? "no reason known"})`,
      mend: "Let the network plugin, or kube-proxy, serve cluster IPs to the node itself and not only to pods, and look for a host firewall.",
    });
  return problems;
}
