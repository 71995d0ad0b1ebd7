import type { VMRestore } from "../../api/vm-restore.ts";
import {
  CLAIMS,
  CONFIG_MAPS,
  CONTROLLER_REVISIONS,
  INSTANCES,
  JOBS,
  NETWORK_ATTACHMENTS,
  SECRETS,
  VIRTUAL_MACHINES,
} from "../kinds.ts";
import type { ClusterReads } from "../runtime/cluster.ts";
import { type KubernetesObject, type ResourceType, stands } from "../runtime/objects.ts";
import { hasVisibleAddress } from "./conflicts.ts";
import { attachmentsOf, referencesOf } from "./manifest/references.ts";
import { isOurs, restoreNames, STATE_LABEL, stateClaimName } from "./names.ts";
import type { Observed, ObservedReference } from "./observed.ts";
import { recreated } from "./recreated.ts";

/** The claim that KubeVirt finds for a machine of that name already: it makes them with names of its own. A second one would be one too many. */
async function claimWithState(cluster: ClusterReads, restore: VMRestore, machine: string): Promise<string | undefined> {
  const claims = await cluster.list(CLAIMS, restore.metadata.namespace, `${STATE_LABEL}=${machine}`);
  return claims.find((claim) => stands(claim) && !isOurs(restore, claim))?.metadata.name;
}

export const REFERENCE_TYPES: Readonly<Record<ObservedReference["kind"], ResourceType>> = {
  Secret: SECRETS as ResourceType,
  ConfigMap: CONFIG_MAPS,
  ControllerRevision: CONTROLLER_REVISIONS,
  PersistentVolumeClaim: CLAIMS as ResourceType,
};

type Wanted = Omit<ObservedReference, "present" | "original">;
type Beside = Pick<Observed, "references" | "stateJob" | "stateSecret" | "missingNetworks" | "neighbours">;

const NOBODY = { machines: [], instances: [] } as const;

/**
 * What lies around a machine that is about to be made: what it refers to, and which others there are. Before and after that moment
 * only what was made for it is looked at, so that it can be removed again.
 */
export async function observeBeside(
  cluster: ClusterReads,
  observed: Pick<Observed, "restore" | "spec" | "agent" | "plan" | "machine" | "disks">,
): Promise<Beside> {
  const { restore, spec, plan, machine, agent, disks } = observed;
  if (plan === undefined || machine !== undefined)
    return { references: [], stateJob: undefined, stateSecret: undefined, missingNetworks: [], neighbours: NOBODY };
  const { namespace } = restore.metadata;
  // The claims of its disks are made just before it: earlier, and while it stages, nobody needs to know.
  const isNext = agent.status?.serving === true && disks.every(({ claim }) => claim !== undefined);
  const result = isNext ? recreated(observed, plan.disks) : undefined;
  const made = result !== undefined && "machine" in result.made ? result.made : undefined;
  const wanted: Wanted[] = made === undefined ? [] : referencesOf(made.machine);
  if (made?.keepsState === true) {
    const found =
      spec.replace === undefined ? await claimWithState(cluster, restore, spec.virtualMachine.name) : undefined;
    const name = found ?? stateClaimName(restore, spec);
    wanted.push({ kind: "PersistentVolumeClaim", name, optional: true });
  }
  const isWanted = (kind: string, name: string) => wanted.some((each) => each.kind === kind && each.name === name);
  for (const { kind, name, state } of restore.status?.machine?.references ?? []) {
    if (state === "Created" && !isWanted(kind, name))
      wanted.push({ kind, name, optional: true, isStale: made !== undefined });
  }
  const isAddressed = made !== undefined && hasVisibleAddress(made.machine);
  const hasState = wanted.some(({ kind }) => kind === "PersistentVolumeClaim");
  const { stateJob } = restoreNames(restore, spec.virtualMachine.name);
  const [job, secret, references, networks, machines, instances] = await Promise.all([
    hasState ? cluster.get(JOBS, namespace, stateJob) : undefined,
    hasState ? cluster.get(SECRETS, namespace, stateJob) : undefined,
    Promise.all(
      wanted.map(async ({ kind, name, optional, isStale = false }) => {
        const get = (each: string) => cluster.get(REFERENCE_TYPES[kind], namespace, each);
        const revision = made?.revisions.find((own) => kind === "ControllerRevision" && own.name === name);
        const original =
          revision === undefined
            ? {}
            : { original: { name: revision.original, present: await get(revision.original) } };
        return { kind, name, optional, isStale, present: await get(name), ...original };
      }),
    ),
    Promise.all(
      (made === undefined ? [] : attachmentsOf(made.machine)).map(async ({ namespace: space, name }) => {
        const present = await cluster.get(NETWORK_ATTACHMENTS, space, name);
        return present === undefined ? [`${space}/${name}`] : [];
      }),
    ),
    isAddressed ? cluster.list(VIRTUAL_MACHINES, undefined) : [],
    isAddressed ? cluster.list(INSTANCES, undefined) : [],
  ]);
  const own = <T extends KubernetesObject>(object: T | undefined) => (isOurs(restore, object) ? object : undefined);
  return {
    references,
    stateJob: own(job),
    stateSecret: own(secret),
    missingNetworks: networks.flat(),
    neighbours: { machines, instances },
  };
}
