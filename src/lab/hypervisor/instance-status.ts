import type { VolumeClaim } from "../controllers/kinds.ts";
import type { Condition, InstancePhase, InstanceStatus, VirtualMachineInstance } from "./kinds.ts";
import { interfacesOf, macOf, onPodNetwork } from "./machine-spec.ts";
import { withTimes } from "./virtual-machine-controller.ts";

const NO_MIGRATION = "the lab has no live migration";

/** What is known of an instance and its machine. */
export interface InstanceFacts {
  readonly phase: InstancePhase;
  /** Why it failed. */
  readonly reason?: string;
  readonly nodeName: string;
  readonly podUid: string;
  readonly podIP: string;
  readonly paused: "PausedIOError" | "PausedByUser" | undefined;
  readonly agentConnected: boolean;
  readonly osInfo: Record<string, unknown> | undefined;
  /** Why the machine cannot be started at the moment. */
  readonly problem: { readonly reason: string; readonly message: string } | undefined;
  readonly claims: ReadonlyMap<string, VolumeClaim>;
}

/** The status of an instance as KubeVirt words it. */
export function instanceStatus(instance: VirtualMachineInstance, facts: InstanceFacts, now: number): InstanceStatus {
  const before = instance.status ?? {};
  const { phase } = facts;
  const at = new Date(now).toISOString().replace(/\.\d+/, "");
  const transitions = before.phaseTransitionTimestamps ?? [];
  const isHere = phase === "Running" || phase === "Scheduled";
  return {
    phase,
    ...(facts.reason === undefined ? {} : { reason: facts.reason }),
    ...(isHere || before.nodeName !== undefined ? { nodeName: facts.nodeName } : {}),
    activePods: { [facts.podUid]: facts.nodeName },
    conditions: withTimes(conditionsOf(facts), before.conditions ?? [], now),
    phaseTransitionTimestamps:
      transitions.at(-1)?.phase === phase ? transitions : [...transitions, { phase, phaseTransitionTimestamp: at }],
    interfaces: interfacesOf(instance).map((network, index) => ({
      ...{ name: network.name, mac: macOf(network, instance), podInterfaceName: `eth${index}`, queueCount: 1 },
      ...(onPodNetwork(network, instance) && isHere ? { ipAddress: facts.podIP, ipAddresses: [facts.podIP] } : {}),
      infoSource: facts.agentConnected ? "domain, guest-agent" : "domain",
    })),
    ...(facts.osInfo === undefined ? {} : { guestOSInfo: guestInfo(facts.osInfo) }),
    volumeStatus: (instance.spec.volumes ?? []).map((volume, index) => volumeStatus(volume.name, index, facts)),
    ...{ qosClass: "Burstable", runtimeUser: 107, virtualMachineRevisionName: before.virtualMachineRevisionName ?? "" },
  };
}

function conditionsOf(facts: InstanceFacts): Condition[] {
  const isReady = facts.phase === "Running" && facts.paused === undefined;
  const conditions: Condition[] = [
    isReady
      ? { type: "Ready", status: "True" }
      : { type: "Ready", status: "False", reason: "GuestNotRunning", message: "Guest VM is not reported as running" },
    { type: "LiveMigratable", status: "False", reason: "HypervisorHasNoMigration", message: NO_MIGRATION },
    { type: "StorageLiveMigratable", status: "False", reason: "HypervisorHasNoMigration", message: NO_MIGRATION },
  ];
  if (facts.agentConnected) conditions.push({ type: "AgentConnected", status: "True" });
  if (facts.paused !== undefined) {
    const message =
      facts.paused === "PausedIOError" ? "VMI was paused, low-level IO error detected" : "VMI was paused by user";
    conditions.push({ type: "Paused", status: "True", reason: facts.paused, message });
  }
  if (facts.problem !== undefined) conditions.push({ type: "Synchronized", status: "False", ...facts.problem });
  return conditions;
}

function volumeStatus(name: string, index: number, { claims }: InstanceFacts): object {
  const claim = claims.get(name);
  if (claim === undefined) return { name, target: "" };
  const { accessModes, resources, volumeMode } = claim.spec;
  return {
    ...{ name, target: `vd${String.fromCharCode(97 + index)}` },
    persistentVolumeClaimInfo: {
      ...{ claimName: claim.metadata.name, accessModes, volumeMode: volumeMode ?? "Filesystem" },
      ...{ capacity: claim.status?.capacity, requests: resources?.requests },
      filesystemOverhead: volumeMode === "Block" ? "0" : "0.055",
    },
  };
}

function guestInfo(info: Record<string, unknown>): object {
  const text = (name: string): string => (typeof info[name] === "string" ? (info[name] as string).slice(0, 256) : "");
  return {
    ...{ id: text("id"), name: text("name"), prettyName: text("pretty-name"), version: text("version") },
    ...{ versionId: text("version-id"), kernelRelease: text("kernel-release"), kernelVersion: text("kernel-version") },
    machine: text("machine"),
  };
}
