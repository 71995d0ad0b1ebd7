import { parseQuantity } from "../../api/quantity.ts";
import { formatBytes } from "../../base/format-bytes.ts";
import type { KubeVirt, Node } from "../kinds.ts";
import { isOurs, STATE_LABEL } from "./names.ts";
import type { Observed } from "./observed.ts";

/** What stands in the way of a live migration. */
export interface LiveProblem {
  /** CamelCase. */
  readonly reason: string;
  readonly message: string;
}

const GB = 1e9;
/** KubeVirt's default: seconds for each GB of memory and disks. */
const COMPLETION_SECONDS_PER_GB = 150;
const SCHEDULABLE = "kubevirt.io/schedulable";

/** Everything that KubeVirt asks of a cluster and a machine before it migrates volumes live. Each is looked at, all are told. */
export function liveProblems(observed: Observed): LiveProblem[] {
  return [...clusterProblems(observed), ...machineProblems(observed)];
}

function clusterProblems({ kubevirts = [], nodes, instance, machine }: Observed): LiveProblem[] {
  const [kubevirt] = kubevirts;
  if (kubevirt === undefined)
    return [
      problem("KubeVirtNotFound", "no KubeVirt resource was found in the cluster, so how it is set up is not known"),
    ];
  const problems: LiveProblem[] = [];
  const { configuration, workloadUpdateStrategy } = kubevirt.spec ?? {};
  const phase = kubevirt.status?.phase;
  // not deployed, or being updated: it migrates nothing
  if (phase !== "Deployed") problems.push(problem("KubeVirtNotDeployed", `KubeVirt is ${phase ?? "not deployed"}`));
  // the method that makes migrations for changed machines
  if (workloadUpdateStrategy?.workloadUpdateMethods?.includes("LiveMigrate") !== true)
    problems.push(
      problem(
        "WorkloadUpdateMethod",
        "spec.workloadUpdateStrategy.workloadUpdateMethods of KubeVirt lacks LiveMigrate",
      ),
    );
  // changes of a running machine take effect at once, or at its next start only
  const rollout = configuration?.vmRolloutStrategy ?? (isBefore(kubevirt, 1, 6) ? "Stage" : "LiveUpdate");
  if (rollout !== "LiveUpdate")
    problems.push(
      problem("RolloutStrategy", `spec.configuration.vmRolloutStrategy of KubeVirt is ${rollout}, not LiveUpdate`),
    );
  // before it was for everybody
  const gates = configuration?.developerConfiguration?.featureGates ?? [];
  if (isBefore(kubevirt, 1, 5) && !["VolumesUpdateStrategy", "VolumeMigration"].every((gate) => gates.includes(gate)))
    problems.push(
      problem(
        "FeatureGates",
        "this version of KubeVirt needs the feature gates VolumesUpdateStrategy and VolumeMigration",
      ),
    );
  // a connection lost in post-copy ends the machine
  if (configuration?.migrations?.allowPostCopy === true)
    problems.push(
      problem("PostCopy", "KubeVirt may use post-copy (allowPostCopy), in which a lost connection ends the machine"),
    );
  // a launcher never goes where another one of the machine is
  const wanted = machine?.spec?.template?.spec?.nodeSelector ?? {};
  const others = nodes.filter((node) => node.metadata.name !== instance?.status?.nodeName && takes(node, wanted));
  if (others.length === 0)
    problems.push(
      problem("NoOtherNode", "there is no second node that takes machines and fits this one's node selector"),
    );
  return problems;
}

function takes({ metadata, spec, status }: Node, wanted: Readonly<Record<string, string>>): boolean {
  const isReady = status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false;
  return (
    isReady &&
    spec?.unschedulable !== true &&
    metadata.labels?.[SCHEDULABLE] === "true" &&
    Object.entries(wanted).every(([key, value]) => metadata.labels?.[key] === value)
  );
}

function machineProblems({ restore, machine, instance, disks }: Observed): LiveProblem[] {
  const problems: LiveProblem[] = [];
  const { conditions = [], phase, migrationState, volumeStatus = [] } = instance?.status ?? {};
  // only what runs can be moved while it runs
  if (!isOurs(restore, machine) || phase !== "Running" || instance?.metadata.deletionTimestamp !== undefined)
    problems.push(problem("NotRunning", "the machine is not running"));
  // KubeVirt says so of host devices, networks, CPU models
  const storage = conditions.find(({ type, status }) => type === "StorageLiveMigratable" && status === "False");
  if (storage !== undefined)
    problems.push(problem("NotMigratable", `KubeVirt cannot move the machine: ${storage.message}`));
  // a change of the machine that waits for its next start
  if (machine?.status?.conditions?.some(({ type, status }) => type === "RestartRequired" && status === "True") === true)
    problems.push(problem("RestartRequired", "the machine was changed in a way that needs a restart first"));
  // another migration under way
  if (migrationState !== undefined && migrationState.completed !== true && migrationState.failed !== true)
    problems.push(problem("MigrationUnderWay", "the machine is just being migrated for another reason"));
  const served = new Set(disks.map(({ name }) => name));
  const devices = (instance?.spec?.domain?.devices?.disks ?? []).filter(({ name }) => served.has(name));
  // what KubeVirt does not copy
  const shared = devices.find(({ shareable, lun }) => shareable === true || lun !== undefined);
  if (shared !== undefined) problems.push(problem("DiskNotMigratable", `disk ${shared.name} is shareable or a LUN`));
  // a disk that stays where it is must be reachable from both nodes
  // KubeVirt moves the machine's TPM and firmware state by itself.
  const left = volumeStatus.find(
    ({ name, persistentVolumeClaimInfo: claim }) =>
      claim?.accessModes?.includes("ReadWriteOnce") === true && !served.has(name) && !name.startsWith(STATE_LABEL),
  );
  if (left !== undefined)
    problems.push(
      problem("OtherVolume", `volume ${left.name} is ReadWriteOnce and not among those that are relocated`),
    );
  return problems;
}

function problem(reason: string, message: string): LiveProblem {
  return { reason, message };
}

/** Versions that cannot be read are taken for new ones. */
function isBefore({ status }: KubeVirt, major: number, minor: number): boolean {
  const found = /^v?(\d+)\.(\d+)/.exec(status?.observedKubeVirtVersion ?? "");
  if (found === null) return false;
  const [, ofMajor, ofMinor] = found.map(Number);
  return (ofMajor ?? 0) < major || (ofMajor === major && (ofMinor ?? 0) < minor);
}

/**
 * Why a live migration would not be done before KubeVirt gives it up: so many seconds for each GB of memory and disks. Undefined
 * where it would be, or where no rate was measured yet.
 */
export function tooSlow(observed: Observed): string | undefined {
  const { kubevirts, disks, agent, plan, machine } = observed;
  const migrations = kubevirts?.[0]?.spec?.configuration?.migrations;
  const diskBytes = disks.reduce((sum, { size }) => sum + size, 0);
  const { memory, resources } = (machine?.spec?.template?.spec?.domain ?? {}) as {
    memory?: { guest?: string };
    resources?: { requests?: { memory?: string } };
  };
  const memoryBytes = parseQuantity(memory?.guest ?? resources?.requests?.memory ?? "0") ?? 0;
  const perGb = migrations?.completionTimeoutPerGiB ?? COMPLETION_SECONDS_PER_GB;
  // Zero: no limit.
  if (perGb === 0) return undefined;
  const limit = perGb * Math.ceil((diskBytes + memoryBytes) / GB);
  const explain = (bytes: number, rate: number, whose: string): string | undefined =>
    bytes / rate <= limit
      ? undefined
      : `${formatBytes(bytes)} at the ${formatBytes(Math.round(rate))} a second ${whose} take longer than the ${limit} s after which KubeVirt gives up`;
  const bandwidth = parseQuantity(migrations?.bandwidthPerMigration ?? "0") ?? 0;
  // Every byte goes over the network, zeros included.
  const network = bandwidth <= 0 ? undefined : explain(diskBytes + memoryBytes, bandwidth, "that KubeVirt allows");
  const measured = agent.status?.repository.bytesPerSecond;
  const dataBytes = Math.min(plan?.dataBytes ?? diskBytes, diskBytes);
  const source = measured === undefined ? undefined : explain(dataBytes, measured, "measured from the repository");
  return network ?? source;
}
