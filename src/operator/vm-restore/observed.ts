import type { AgentPhase, AgentStatus } from "../../api/agent-control.ts";
import type { BackupRepository } from "../../api/backup-repository.ts";
import type { BootProfile } from "../../api/boot-profile.ts";
import type { Condition } from "../../api/common.ts";
import type { StateListing } from "../../api/machine-state.ts";
import type { Peer } from "../../api/peers.ts";
import type { VMProfile } from "../../api/vm-profile.ts";
import type { VMRestore, VMRestoreSpec } from "../../api/vm-restore.ts";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import type {
  Claim,
  Job,
  KubeVirt,
  Migration,
  Node,
  Pod,
  Secret,
  Service,
  StatefulSet,
  StorageClass,
  VirtualMachine,
  VirtualMachineInstance,
  Volume,
} from "../kinds.ts";
import type { CheckedNode } from "../node-check/nodes-verdict.ts";
import type { Event } from "../runtime/event-recorder.ts";
import type { KubernetesObject } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import type { AgentPlace } from "./agent-place.ts";
import type { Plan } from "./plan.ts";
import type { Target } from "./relocation-objects.ts";
import type { Source } from "./sources.ts";
import type { Surroundings } from "./surroundings.ts";

export interface ObservedDisk {
  readonly name: string;
  readonly size: number;
  /** While the agent serves it. */
  readonly volume: Volume | undefined;
  readonly claim: Claim | undefined;
  readonly target: Target;
  readonly targetClaim: Claim | undefined;
}

export interface ObservedAgent {
  readonly status: AgentStatus | undefined;
  /** Why there is no status. */
  readonly problem: string | undefined;
  /** That it was asked and did not answer, which takes its time. */
  readonly failed?: true;
  /** The phase that this very process was told last. */
  readonly told: AgentPhase | undefined;
  /** The digest of the peers that this very process was told a moment ago, whatever it says of them. */
  readonly peersTold?: string | undefined;
  /** Bytes a second that a live migration's copy was measured to read; undefined while too little was seen of it. */
  readonly copyRate?: number | undefined;
  /** The snapshot's manifest; read only where a machine is to be made from it. */
  readonly manifest: unknown;
  /** What the snapshot holds beside the manifest; read with it. */
  readonly objects: readonly unknown[];
  /** Files of the machine's TPM and firmware in the snapshot; read with the manifest. */
  readonly stateFiles: StateListing;
  /** Read only where it is not kept yet. */
  readonly profile: BootProfile | undefined;
}

/** One of the snapshots that the restore reads. */
export interface ObservedSource {
  readonly source: Source;
  readonly repository: BackupRepository | undefined;
  readonly job: Job | undefined;
  readonly pods: readonly Pod[];
}

/** The machine whose place the restored one takes, or took: `spec.replace` names it. */
export interface ObservedOld {
  /** What has this name now: the old machine, or it again after it was put back. It is in `Observed.machine` never. */
  readonly machine: VirtualMachine | undefined;
  readonly instance: VirtualMachineInstance | undefined;
  /** Of KubeVirt, not ended yet, that mount one of its claims. */
  readonly pods: readonly Pod[];
  /** That holds its manifest. */
  readonly secret: Secret | undefined;
  /** In which KubeVirt looks for TPM and firmware state of a machine of that name. Looked at while the restored machine is not there. */
  readonly stateClaims: readonly Claim[];
  /** That hold the state of the old machine, and were put out of KubeVirt's sight. Looked at as the others are. */
  readonly setAside: readonly Claim[];
  /** The namespace is being deleted: nothing can be put back into it. */
  readonly isNamespaceGoing: boolean;
}

/** An object of the machine's namespace that the machine refers to. */
export interface ObservedReference {
  readonly kind: NonNullable<NonNullable<VMRestoreStatus["machine"]>["references"]>[number]["kind"];
  readonly name: string;
  /** Whether the machine starts without it. */
  readonly optional: boolean;
  readonly present: KubernetesObject | undefined;
  /** The machine refers to it no longer: it was made for what the spec said before. */
  readonly isStale?: boolean;
  /** Of a copy that is the machine's own: what it is a copy of. */
  readonly original?: { readonly name: string; readonly present: KubernetesObject | undefined };
}

/** Everything that a decision about one VMRestore is made from, as it stood at `now`. */
export interface Observed {
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly settings: OperatorSettings;
  readonly restore: VMRestore;
  readonly spec: VMRestoreSpec;
  /** What is to be read; looked at until there is a plan. */
  readonly sources: readonly ObservedSource[];
  /** All of this restore, those that an earlier spec asked for among them. */
  readonly inspectionJobs: readonly Job[];
  readonly storageClasses: readonly StorageClass[];
  /** Looked at only before anything is made, once it is known what. */
  readonly surroundings: Surroundings | undefined;
  /** Which nodes can mount what the agent serves, until the machine is made; undefined where that is not looked at. */
  readonly checkedNodes?: readonly CheckedNode[] | "Pending" | undefined;
  /** Every VMRestore, itself among them, while it may have to wait for others. */
  readonly others: readonly VMRestore[];
  /** uids of those whose turn came a moment ago, whatever their status says yet. */
  readonly granted: Pick<ReadonlySet<string>, "has">;
  readonly planSecret: Secret | undefined;
  readonly plan: Plan | undefined;
  readonly service: Service | undefined;
  readonly keys: Secret | undefined;
  readonly tls: Secret | undefined;
  readonly overlay: Claim | undefined;
  readonly cache: Claim | undefined;
  readonly statefulSet: StatefulSet | undefined;
  readonly agentPods: readonly Pod[];
  readonly agent: ObservedAgent;
  /** The agents that it is to share with; undefined where nothing is shared. */
  readonly peers?: readonly Peer[] | undefined;
  /** Where the agent is, and whether it could be elsewhere; undefined while its claims are not bound. */
  readonly place: AgentPlace | undefined;
  readonly disks: readonly ObservedDisk[];
  readonly machine: VirtualMachine | undefined;
  readonly instance: VirtualMachineInstance | undefined;
  /** The pod in which the machine is to start, while it does not run, with what is said about it. */
  readonly launcher?: { readonly pod: Pod; readonly events: readonly Event[] } | undefined;
  /** Where a machine is replaced. */
  readonly old: ObservedOld | undefined;
  /** Pods, not ended yet, that mount a claim which the agent serves. */
  readonly mountingPods: readonly Pod[];
  /** Launchers that have ended, and that name a claim which the agent serves: Kubernetes keeps the claim for as long as they are there. */
  readonly endedPods: readonly Pod[];
  /** Launchers, those that have ended too, that mount a target claim. */
  readonly targetPods: readonly Pod[];
  /** KubeVirt's migrations of the machine's volumes; looked at only while it is migrated live. */
  readonly migrations: readonly Migration[];
  /** How KubeVirt is set up, and where machines may run; undefined and empty where that is not looked at. */
  readonly kubevirts: readonly KubeVirt[] | undefined;
  readonly nodes: readonly Node[];
  readonly job: Job | undefined;
  readonly jobPods: readonly Pod[];
  /** What the relocation said when it failed last, as far as its pods are still there. */
  readonly jobFailure: string | undefined;
  /** Of the Job that puts TPM and firmware state onto the machine's claim. */
  readonly statePods: readonly Pod[];
  readonly jobSecret: Secret | undefined;
  /** What bears the name of the relocation Job or of its Secret and was made by somebody else. */
  readonly inTheWay: KubernetesObject | undefined;
  readonly profile: VMProfile | undefined;
  /** Looked at while there is no machine: what it will refer to, or what was made for it. */
  readonly references: readonly ObservedReference[];
  /** What puts TPM and firmware state onto the machine's claim; looked at as the references are. */
  readonly stateJob: Job | undefined;
  readonly stateSecret: Secret | undefined;
  /** Networks that it will be in, beside the pod network, and that are not there: `namespace/name`. */
  readonly missingNetworks: readonly string[];
  /** Every machine of the cluster, in the moment before this one is made with an address that another one may have. */
  readonly neighbours: {
    readonly machines: readonly VirtualMachine[];
    readonly instances: readonly VirtualMachineInstance[];
  };
}

export function conditionsBefore(observed: Observed): readonly Condition[] {
  return observed.restore.status?.conditions ?? [];
}
