import type { AgentStatus, DiskStatus } from "../../api/agent-control.ts";
import { formatDuration, parseDuration } from "../../api/duration.ts";
import { formatBytes } from "../../base/format-bytes.ts";
import { isTrue } from "../conditions.ts";
import { podTrouble } from "../inspection-job.ts";
import { guestTrouble } from "./guest.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { no, yes } from "./step.ts";

type Hydration = NonNullable<AgentStatus["repository"]["hydration"]>;

/** What people should look at while the machine depends on the agent. The first that is true is told. */
export function degraded(observed: Observed) {
  const { agent, instance, spec } = observed;
  const served =
    isTrue(conditionsBefore(observed), "AgentReady") || isTrue(conditionsBefore(observed), "VirtualMachineCreated");
  // the agent served once and does not answer
  if (agent.status === undefined && served) {
    return yes(
      "Degraded",
      "AgentUnreachable",
      `The media agent does not answer: ${podTrouble(observed.agentPods) ?? agent.problem ?? "no reason known"}. The machine's reads and writes wait for it.`,
    );
  }
  // somebody deleted what the machine writes to; it goes when nothing uses it any more
  if (observed.overlay?.metadata.deletionTimestamp !== undefined) {
    return yes(
      "Degraded",
      "OverlayDeleting",
      `Claim ${observed.overlay.metadata.name} in the operator's namespace was deleted: when the media agent's pod ends, all that the machine wrote is lost. Let the cutover happen before that.`,
    );
  }
  // no room for what the guest writes
  if (agent.status?.overlay.full === true) {
    return yes(
      "Degraded",
      "OverlayFull",
      agent.status.overlay.stuck === true
        ? "The overlay is full, and has no room left for its own records: the machine's writes wait, and its disks cannot be moved. Enlarge its claim in the operator's namespace."
        : "The overlay is full: the machine's writes wait. Enlarge its claim in the operator's namespace, or let the cutover happen.",
    );
  }
  // two machines write to one disk: all but the last that was started are refused
  const refused = agent.status?.disks.find(({ refusedWriter }) => refusedWriter !== undefined);
  if (refused !== undefined) return yes("Degraded", "WritesRefused", writesRefused(refused));
  // the backup cannot be read at the moment
  if (agent.status?.repository.reachable === false) {
    return yes(
      "Degraded",
      "RepositoryUnreachable",
      `Reads that are not cached wait: ${agent.status.repository.message}`,
    );
  }
  // nothing keeps the backup any more, or parts of it are deleted already
  if (agent.status?.repository.hydration !== undefined) {
    return yes("Degraded", "BackupVanishing", vanishing(agent.status.repository.hydration));
  }
  // a blob is damaged, and the index read anew knows no other copy
  if (agent.status?.serving === true && agent.status.repository.message !== "") {
    return yes(
      "Degraded",
      "BackupDamaged",
      `Parts of the backup cannot be read: ${agent.status.repository.message}. Reads of them fail. Run \`restic check --read-data\`.`,
    );
  }
  // it answers, or does not even fail, but takes too long
  const waited = agent.status?.repository.longestWait ?? 0;
  if (waited > parseDuration(spec.mediaAgent.repositoryPatience)) {
    return yes(
      "Degraded",
      "RepositorySlow",
      `A read has been waiting for the repository for ${formatDuration(waited)}. The machine waits with it.`,
    );
  }
  // KubeVirt paused it
  const trouble = instance?.status?.conditions?.some(({ type, status }) => type === "Paused" && status === "True");
  if (trouble === true) return yes("Degraded", "MachinePaused", guestTrouble(observed) ?? "The machine is paused.");
  // nothing protects the snapshot from being forgotten
  if (agent.status?.serving === true && !agent.status.repository.pinned) {
    return yes(
      "Degraded",
      "NotPinned",
      `Nothing keeps \`restic forget\` from removing the snapshot meanwhile: ${agent.status.repository.pinMessage}`,
    );
  }
  return no("Degraded", "AsExpected", "Nothing is wrong.");
}

/** Names come from machines: nothing but what a name may hold is told of them. */
function writesRefused({ name, writer = "", refusedWriter = "", refusedWrites = 0 }: DiskStatus): string {
  const named = (machine: string): string => {
    const readable = machine.replace(/[^\w.-]/g, "?");
    return readable === "" ? "a node that is not known by name" : `node ${readable}`;
  };
  return [
    `A guest on ${named(refusedWriter)} writes to disk ${name}, which a later one on ${named(writer)} has taken over:`,
    `its writes are refused (${refusedWrites} until now).`,
    "See that no launcher pod or QEMU process of the machine is left on the first node.",
  ].join(" ");
}

/** What is safe, what is not, and what to do. */
function vanishing({ needed, safe, lost, done, cacheFull }: Hydration): string {
  const isAllSafe = done && safe === needed;
  const told = [
    "The backup may vanish: its snapshot was forgotten, or parts of it were deleted.",
    isAllSafe
      ? `All that the disks need (${formatBytes(needed)}) is in the media agent's cache.`
      : `Of the ${formatBytes(needed)} that the disks need, ${formatBytes(safe)} are in the media agent's cache.`,
  ];
  if (lost > 0) told.push(`${formatBytes(lost)} are gone: reads of them fail.`);
  if (cacheFull)
    told.push("The cache is too small for the rest (spec.mediaAgent.cache.size); do not prune the repository.");
  else if (!done) told.push("The rest is being fetched; do not prune the repository.");
  else if (safe + lost < needed)
    told.push("The cache's claim cannot keep the rest through a power failure; do not prune the repository.");
  told.push("Relocate now: let the relocation begin and the cutover happen, and keep the agent's cache until then.");
  return told.join(" ");
}
