import type { VolumeClaim } from "../controllers/kinds.ts";
import {
  type Condition,
  claimNameOf,
  type InstancePhase,
  type InstanceStatus,
  type VirtualMachineInstance,
} from "./kinds.ts";
import { interfacesOf, macOf, onPodNetwork } from "./machine-spec.ts";
import { withTimes } from "./virtual-machine-controller.ts";
import { VOLUMES_CHANGE } from "./volume-update.ts";

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
    conditions: withTimes(conditionsOf(instance, facts), before.conditions ?? [], now),
    phaseTransitionTimestamps:
      transitions.at(-1)?.phase === phase ? transitions : [...transitions, { phase, phaseTransitionTimestamp: at }],
    interfaces: interfacesOf(instance).map((network, index) => ({
      ...{ name: network.name, mac: macOf(network, instance), podInterfaceName: `eth${index}`, queueCount: 1 },
      ...(onPodNetwork(network, instance) && isHere ? { ipAddress: facts.podIP, ipAddresses: [facts.podIP] } : {}),
      infoSource: facts.agentConnected ? "domain, guest-agent" : "domain",
    })),
    ...(facts.osInfo === undefined ? {} : { guestOSInfo: guestInfo(facts.osInfo) }),
    volumeStatus: (instance.spec.volumes ?? []).map((volume, index) => volumeStatus(volume.name, index, facts)),
    ...(before.migratedVolumes === undefined ? {} : { migratedVolumes: before.migratedVolumes }),
    ...(before.migrationState === undefined ? {} : { migrationState: before.migrationState }),
    ...{ qosClass: "Burstable", runtimeUser: 107, virtualMachineRevisionName: before.virtualMachineRevisionName ?? "" },
  };
}

function conditionsOf(instance: VirtualMachineInstance, facts: InstanceFacts): Condition[] {
  const isReady = facts.phase === "Running" && facts.paused === undefined;
  const conditions: Condition[] = [
    isReady
      ? { type: "Ready", status: "True" }
      : { type: "Ready", status: "False", reason: "GuestNotRunning", message: "Guest VM is not reported as running" },
    ...migratable(instance, facts),
    ...volumesChange(instance),
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

/** Whether the machine can move to another node at all, and with the disks that it has as they are. */
function migratable(instance: VirtualMachineInstance, { claims }: InstanceFacts): Condition[] {
  const bridged = interfacesOf(instance).find(
    (network) => network.bridge !== undefined && onPodNetwork(network, instance),
  );
  const reason = "InterfaceNotLiveMigratable";
  const message = "cannot migrate VMI which does not use masquerade to connect to the pod network";
  const storage: Condition =
    bridged === undefined
      ? { type: "StorageLiveMigratable", status: "True" }
      : { type: "StorageLiveMigratable", status: "False", reason: "NotMigratable", message: `${reason}: ${message}` };
  const type = "LiveMigratable";
  if (bridged !== undefined) return [{ type, status: "False", reason, message }, storage];
  const own = [...claims].find(([, { spec }]) => spec.accessModes?.includes("ReadWriteMany") !== true);
  if (own === undefined) return [{ type, status: "True" }, storage];
  const text = `cannot migrate VMI: PVC ${own[1].metadata.name} is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)`;
  return [{ type, status: "False", reason: "DisksNotLiveMigratable", message: text }, storage];
}

/** That its volumes are to be copied is said once it has taken them over, until they are, or it was called off. */
function volumesChange({ spec, status }: VirtualMachineInstance): Condition[] {
  const said = status?.conditions?.find(({ type }) => type === VOLUMES_CHANGE);
  if (said !== undefined) return [said];
  const migrated = status?.migratedVolumes ?? [];
  const sources = new Set<string | undefined>(migrated.map(({ sourcePVCInfo }) => sourcePVCInfo.claimName));
  const hasTaken = (spec.volumes ?? []).some((volume) => !sources.has(claimNameOf(volume)));
  return migrated.length > 0 && hasTaken ? [{ type: VOLUMES_CHANGE, status: "True", message: "migrate volumes" }] : [];
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
