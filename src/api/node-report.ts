import * as z from "zod";

/**
 * What `vmrestore check-node` finds on a node. The operator runs it as a pod pinned to the node and reads it back from the
 * container's termination message, so the whole of it stays far under 4,096 bytes of JSON. It comes from a machine that others rule:
 * every text is short, and nothing of it is believed but what has this shape.
 *
 * `Unknown` is said wherever it could not be read; it is never taken for a fault.
 */
const presence = z.enum(["Present", "Missing", "Unknown"]);

export const nodeReport = z.strictObject({
  /** As `uname -r` says it. */
  kernel: z.string().max(128),
  /** The NFS client of the kernel: loaded, built in, or a module that can be loaded. */
  nfs: presence,
  /** Its part for version 3, which is a module of its own. */
  nfsv3: presence,
  /** `mount.nfs`, without which the kubelet cannot mount NFS. */
  mountHelper: presence,
  /** `Unlabelled`: it enforces, but the container runtime labels no container, so it keeps none from anything. */
  selinux: z.enum(["Off", "Permissive", "Unlabelled", "Enforcing", "Unknown"]),
  /** SELinux's boolean `virt_use_nfs`. */
  virtUseNfs: z.enum(["On", "Off", "Unknown"]),
  /** Whether the node's own network reaches a Service's cluster IP by TCP. */
  serviceNetwork: z.enum(["Reached", "Unreachable", "Unknown"]),
  /** The address that was tried, and why it was not reached. */
  serviceNetworkError: z.string().max(200).optional(),
});

export type NodeReport = z.infer<typeof nodeReport>;

/** Undefined where it is not what the command writes. */
export function parseNodeReport(message: string | undefined): NodeReport | undefined {
  if (message === undefined || message.length > 4096) return undefined;
  try {
    return nodeReport.safeParse(JSON.parse(message)).data;
  } catch {
    return undefined;
  }
}
