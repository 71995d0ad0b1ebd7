import { AGENT_PORTS } from "../../api/agent-config.ts";
import { LABELS } from "../../api/group.ts";
import type { Inspection } from "../../api/inspection.ts";
import type { VMRestore, VMRestoreSpec } from "../../api/vm-restore.ts";
import { errorMessage } from "../../base/errors.ts";
import { conditionOf, isTrue } from "../conditions.ts";
import { inspectionOutcome } from "../inspection-job.ts";
import {
  BACKUP_REPOSITORIES,
  CLAIMS,
  INSTANCES,
  JOBS,
  type Job,
  KUBEVIRTS,
  type KubeVirt,
  MIGRATIONS,
  NODES,
  type Node,
  PODS,
  type Pod,
  SECRETS,
  SERVICES,
  STATEFUL_SETS,
  STORAGE_CLASSES,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  type VirtualMachineInstance,
  VM_PROFILES,
  VM_RESTORES,
  VOLUMES,
} from "../kinds.ts";
import type { CheckedNode } from "../node-check/nodes-verdict.ts";
import { failureOf } from "../pod-failure.ts";
import type { AccessRules } from "../runtime/access-rules.ts";
import type { ClusterReads } from "../runtime/cluster.ts";
import { isNotFound } from "../runtime/errors.ts";
import type { KubernetesObject } from "../runtime/objects.ts";
import type { PodEvents, WatchedPod } from "../runtime/pod-events.ts";
import type { OperatorSettings } from "../settings.ts";
import { observePlace } from "./agent-place.ts";
import type { AgentSession } from "./agent-session.ts";
import { cutoverBegun, pinnedTargets, switchedAt } from "./cutover-state.ts";
import { isGuestReady } from "./guest.ts";
import { readKeys } from "./keys.ts";
import { teaches } from "./learned-profile.ts";
import { givenUp, liveBegun, VOLUME_MIGRATION_LABEL } from "./live-state.ts";
import { isOurs, restoreNames } from "./names.ts";
import { isReplaced, observeOld } from "./observe-old.ts";
import { observeBeside } from "./observe-references.ts";
import type { Observed, ObservedAgent, ObservedDisk, ObservedSource } from "./observed.ts";
import { type Plan, readPlan } from "./plan.ts";
import { hasEnded, isLauncher, mountsAny, startingLauncher } from "./pods.ts";
import { targetOf } from "./relocation-objects.ts";
import type { Sharers } from "./sharers.ts";
import { sourcesOf } from "./sources.ts";
import { observeSurroundings } from "./surroundings.ts";
import { isLimited, limitsOf } from "./turn-step.ts";

export interface ObserveOptions {
  readonly cluster: ClusterReads;
  readonly settings: OperatorSettings;
  readonly now: number;
  /** The session with this restore's agent. */
  readonly session: AgentSession;
  /** Why the agent did not answer a moment ago: it is not asked again now. */
  readonly silent?: string | undefined;
  /** What the operator may do; nothing is known unless given. */
  readonly access?: AccessRules;
  /** What is known of the nodes; they are not looked at unless given. */
  readonly nodeChecks?: NodeKnowledge | undefined;
  /** What is said about a launcher pod; it is not looked at unless given. */
  readonly podEvents?: Pick<PodEvents, "look"> | undefined;
  /** Knows which agents share what they fetch; none do unless given. */
  readonly sharers?: Pick<Sharers, "peersOf"> | undefined;
  /** See {@link Observed}; none unless given. */
  readonly granted?: Observed["granted"];
}

/** Says what is known of the nodes, and has them looked at. */
export interface NodeKnowledge {
  look(): readonly CheckedNode[] | undefined;
}

/** Reads everything that the next decision about a restore needs. Writes nothing. */
export async function observe(options: ObserveOptions, restore: VMRestore, given: VMRestoreSpec): Promise<Observed> {
  const { cluster, settings, now } = options;
  const own = settings.namespace;
  const { namespace, uid } = restore.metadata;
  const planSecret = await cluster.get(SECRETS, own, restoreNames(restore, "").plan);
  const plan = planSecret === undefined ? undefined : readPlan(planSecret);
  const machineName = plan?.machine ?? given.virtualMachine.name;
  const spec = planned(given, plan, machineName);
  const names = restoreNames(restore, machineName);
  // A restore in the operator's own namespace has its other Jobs there, too.
  const jobs = (await cluster.list(JOBS, own, `${LABELS.restoreUid}=${uid}`)).filter(({ metadata }) =>
    metadata.name.startsWith(names.inspection(0)),
  );
  const pods = await cluster.list(PODS, own, `${LABELS.restoreUid}=${uid}`);
  const sources = plan === undefined ? await observeSources(cluster, spec, namespace, { names, jobs, pods }) : [];
  // Before there is a plan, the names that it will need are looked at already.
  const found = sources.flatMap(({ job, pods: own }) => inspected(job, own) ?? []);
  const knownDisks = plan?.disks ?? found.flatMap(({ disks }) => disks);
  /** Profiles are kept under the name that the machine had when it was backed up. */
  const learnedAs = (plan === undefined ? found[0]?.virtualMachine : plan.backedUpAs) ?? machineName;
  const ofMachine = cluster.get(VIRTUAL_MACHINES, namespace, machineName);
  const [
    storageClasses,
    service,
    keys,
    tls,
    overlay,
    cache,
    statefulSet,
    foundMachine,
    foundInstance,
    job,
    jobSecret,
    profile,
    disks,
    surroundings,
  ] = await Promise.all([
    plan === undefined ? cluster.list(STORAGE_CLASSES, undefined) : [],
    cluster.get(SERVICES, own, names.agent),
    cluster.get(SECRETS, own, names.keys),
    cluster.get(SECRETS, own, names.tls),
    cluster.get(CLAIMS, own, names.overlay),
    cluster.get(CLAIMS, own, names.cache),
    cluster.get(STATEFUL_SETS, own, names.agent),
    ofMachine,
    cluster.get(INSTANCES, namespace, machineName),
    cluster.get(JOBS, namespace, names.relocation),
    cluster.get(SECRETS, namespace, names.relocation),
    cluster.get(VM_PROFILES, namespace, learnedAs),
    ofMachine.then((seen) => {
      const pinned = pinnedTargets({ restore, machine: seen });
      return Promise.all(knownDisks.map((disk) => observeDisk(cluster, restore, spec, disk, pinned.get(disk.name))));
    }),
    found.length === 0 ? undefined : observeSurroundings(cluster, namespace ?? "", own, options.access),
  ]);
  const servedClaims = new Set(disks.map(({ name }) => names.served(name).claim));
  const isOldOne = isReplaced(restore, spec, foundMachine);
  const machine = isOldOne ? undefined : foundMachine;
  const isOldInstance = isOldOne && !isOurs(restore, foundInstance);
  const instance = isOldInstance ? undefined : foundInstance;
  const podsBeside = plan === undefined ? [] : await cluster.list(PODS, namespace);
  const podsOf = (job: string): Pod[] =>
    podsBeside.filter((pod) => isOurs(restore, pod) && pod.metadata.labels?.["job-name"] === job);
  const jobPods = podsOf(names.relocation);
  const migratesLive = liveBegun({ restore, machine });
  const launcher = startingLauncher(
    podsBeside.filter((pod) => isOurs(restore, pod)),
    isOurs(restore, instance) ? instance : undefined,
    migratesLive,
  );
  const launcherEvents = options.podEvents?.look(`${namespace}/${restore.metadata.name}`, watchedPod(launcher)) ?? [];
  const targetClaims = new Set(disks.map(({ target }) => target.claimName));
  const choosing =
    plan !== undefined &&
    isChoosing({ restore, spec, machine, instance, hasCopied: isOurs(restore, job) || isOurs(restore, jobSecret) });
  const [migrations, platform] = await Promise.all([
    migratesLive ? cluster.list(MIGRATIONS, namespace, `${VOLUME_MIGRATION_LABEL}=${machineName}`) : [],
    choosing ? lookAround(cluster) : { kubevirts: undefined, nodes: [] },
  ]);
  const mayWait =
    plan === undefined &&
    conditionOf(restore.status?.conditions, "Admitted")?.reason === "Queued" &&
    isLimited(limitsOf({ settings, sources }));
  const agentPods = pods.filter((pod) => pod.metadata.labels?.["app.kubernetes.io/name"] === "vmrestore-media-agent");
  const without: Observed = {
    now,
    settings,
    restore,
    spec,
    sources,
    inspectionJobs: jobs,
    storageClasses,
    surroundings,
    checkedNodes: isOurs(restore, machine) ? undefined : options.nodeChecks && (options.nodeChecks.look() ?? "Pending"),
    others: mayWait ? await cluster.list(VM_RESTORES, undefined) : [],
    granted: options.granted ?? new Set(),
    planSecret,
    plan,
    service,
    keys,
    tls,
    overlay,
    cache,
    statefulSet,
    agentPods,
    place: await observePlace(cluster, {
      ...{ namespace: own, name: names.agent, pods: agentPods, claims: [overlay, cache] },
      conditions: restore.status?.conditions,
      knownNode: restore.status?.mediaAgent?.node,
    }),
    agent: { ...NOTHING_TOLD, problem: "it was not asked" },
    disks,
    machine,
    instance,
    launcher: launcher === undefined ? undefined : { pod: launcher, events: launcherEvents },
    old: await observeOld(cluster, {
      ...{ restore, spec, plan, pods: podsBeside.filter((pod) => !hasEnded(pod)) },
      machine: isOldOne ? foundMachine : undefined,
      instance: isOldInstance ? foundInstance : undefined,
      isPlaceTaken: isOurs(restore, machine),
    }),
    mountingPods: podsBeside.filter((pod) => !hasEnded(pod) && mountsAny(pod, servedClaims)),
    endedPods: podsBeside.filter(
      (pod) => hasEnded(pod) && isLauncher(pod) && isOurs(restore, pod) && mountsAny(pod, servedClaims),
    ),
    targetPods: podsBeside.filter((pod) => isLauncher(pod) && mountsAny(pod, targetClaims)),
    migrations: [...migrations].sort((a, b) => bornAt(a) - bornAt(b)),
    ...platform,
    job: isOurs(restore, job) ? job : undefined,
    jobPods: jobPods.filter((pod) => !hasEnded(pod)),
    jobFailure: failureOf(jobPods),
    statePods: podsOf(names.stateJob).filter((pod) => !hasEnded(pod)),
    jobSecret: isOurs(restore, jobSecret) ? jobSecret : undefined,
    inTheWay: [job, jobSecret].find((object) => object !== undefined && !isOurs(restore, object)),
    profile,
    references: [],
    missingNetworks: [],
    stateJob: undefined,
    stateSecret: undefined,
    neighbours: { machines: [], instances: [] },
  };
  const agent = await observeAgent(options, without, plan);
  // A pod that ended on a node which does not answer may still hold the mount: then the agent sees its connection.
  const isMounted = (agent.status?.connections.nfs ?? 0) > 0;
  const ended = isMounted ? podsBeside.filter((pod) => hasEnded(pod) && mountsAny(pod, servedClaims)) : [];
  const beside = await observeBeside(cluster, { ...without, agent });
  const peers = agent.status?.peers === undefined ? undefined : await options.sharers?.peersOf(restore);
  return { ...without, ...beside, agent, peers, mountingPods: [...without.mountingPods, ...ended] };
}

function watchedPod(pod: Pod | undefined): WatchedPod | undefined {
  const { namespace, uid } = pod?.metadata ?? {};
  return namespace === undefined || uid === undefined ? undefined : { namespace, uid };
}

/** What the plan says counts, whatever became of the spec. A machine that was renamed would be a second one on the same disks. */
function planned(given: VMRestoreSpec, plan: Plan | undefined, name: string): VMRestoreSpec {
  const { replace, ...spec } = { ...given, virtualMachine: { ...given.virtualMachine, name } };
  const uid = plan === undefined ? replace?.confirmUid : plan.replaces;
  return uid === undefined ? spec : { ...spec, replace: { confirmUid: uid, undo: replace?.undo ?? false } };
}

async function observeSources(
  cluster: ClusterReads,
  spec: VMRestoreSpec,
  namespace: string | undefined,
  seen: { names: ReturnType<typeof restoreNames>; jobs: readonly Job[]; pods: readonly Pod[] },
): Promise<ObservedSource[]> {
  return Promise.all(
    sourcesOf(spec, namespace).map(async (source, index) => {
      const name = seen.names.inspection(index);
      return {
        source,
        repository: await cluster.get(BACKUP_REPOSITORIES, source.repository.namespace, source.repository.name),
        job: seen.jobs.find(({ metadata }) => metadata.name === name),
        pods: seen.pods.filter(({ metadata }) => metadata.labels?.["job-name"] === name),
      };
    }),
  );
}

function inspected(job: Job | undefined, pods: readonly Pod[]): Inspection["snapshot"] {
  const outcome = job === undefined ? undefined : inspectionOutcome(job, pods);
  return outcome?.state === "Done" ? outcome.result.snapshot : undefined;
}

async function observeDisk(
  cluster: ClusterReads,
  restore: VMRestore,
  spec: VMRestoreSpec,
  disk: { name: string; size: number },
  /** The claim that it is migrated to already. */
  claimName: string | undefined,
): Promise<ObservedDisk> {
  const { namespace } = restore.metadata;
  const served = restoreNames(restore, spec.virtualMachine.name).served(disk.name);
  const wanted = targetOf(spec, disk);
  const target = claimName === undefined ? wanted : { ...wanted, claimName };
  const [volume, claim, targetClaim] = await Promise.all([
    cluster.get(VOLUMES, undefined, served.volume),
    cluster.get(CLAIMS, namespace, served.claim),
    cluster.get(CLAIMS, namespace, target.claimName),
  ]);
  return { ...disk, volume, claim, target, targetClaim };
}

const NOTHING_TOLD = {
  status: undefined,
  told: undefined,
  manifest: undefined,
  objects: [],
  stateFiles: [],
  profile: undefined,
};

/** An agent that does not answer is a fact to decide on, not an error. */
async function observeAgent(
  { session, silent }: ObserveOptions,
  observed: Observed,
  plan: Plan | undefined,
): Promise<ObservedAgent> {
  const { service, keys, statefulSet, machine, profile, restore, spec } = observed;
  const address = service?.spec?.clusterIP;
  if (
    plan === undefined ||
    statefulSet === undefined ||
    keys === undefined ||
    address === undefined ||
    address === ""
  ) {
    return { ...NOTHING_TOLD, problem: "it was not made yet" };
  }
  // Before its pod runs nobody answers at that address, and asking would only wait.
  if (!observed.agentPods.some(({ status }) => status?.phase === "Running"))
    return { ...NOTHING_TOLD, problem: "its pod does not run yet" };
  // As the look that it did not answer has it: both have to come to the same words.
  if (silent !== undefined) return { ...NOTHING_TOLD, problem: silent, failed: true };
  try {
    const { ca, operator } = readKeys(keys);
    const control = session.connect({ host: address, port: AGENT_PORTS.control, tls: { ca, ...operator } });
    const status = await control.status();
    const before = restore.status?.conditions;
    const wantsObjects = status.serving && machine === undefined && !isTrue(before, "VirtualMachineCreated");
    const wantsManifest = wantsObjects && spec.virtualMachine.manifest.from === "Snapshot";
    const wantsProfile = isOurs(restore, machine) && teaches(restore, profile);
    return {
      status,
      problem: undefined,
      told: session.told(status.instance),
      peersTold: session.peersTold(status.instance),
      copyRate: liveBegun({ restore, machine }) ? session.copyMeter.look(status) : undefined,
      manifest: wantsManifest ? await control.manifest() : undefined,
      objects: wantsObjects ? await control.objects() : [],
      stateFiles: wantsManifest ? await control.stateFiles() : [],
      profile: wantsProfile ? await control.profile() : undefined,
    };
  } catch (error) {
    return { ...NOTHING_TOLD, problem: errorMessage(error), failed: true };
  }
}

/** Whether it is still open how the disks are relocated, and about to be decided. */
function isChoosing(seen: {
  readonly restore: VMRestore;
  readonly spec: VMRestoreSpec;
  readonly machine: VirtualMachine | undefined;
  readonly instance: VirtualMachineInstance | undefined;
  readonly hasCopied: boolean;
}): boolean {
  const { restore, spec, machine, instance, hasCopied } = seen;
  const { strategy, begin } = spec.relocation;
  if (!isOurs(restore, machine) || liveBegun({ restore, machine }) || givenUp({ machine }) !== undefined) return false;
  if (cutoverBegun({ restore, machine }) || switchedAt(machine) !== undefined) return false;
  const isReady = isTrue(restore.status?.conditions, "GuestReady") || isGuestReady({ instance, spec });
  const isTime = begin === "Immediately" || isReady;
  return isTime && (strategy === "LiveMigration" || (strategy === "Auto" && !hasCopied));
}

/** A cluster without KubeVirt has no such kind. */
async function lookAround(cluster: ClusterReads): Promise<{ kubevirts: KubeVirt[]; nodes: Node[] }> {
  const found = cluster.list(KUBEVIRTS, undefined).catch((error: unknown) => {
    if (isNotFound(error)) return [];
    throw error;
  });
  const [kubevirts, nodes] = await Promise.all([found, cluster.list(NODES, undefined)]);
  return { kubevirts, nodes };
}

function bornAt({ metadata }: KubernetesObject): number {
  return Date.parse(metadata.creationTimestamp ?? "");
}
