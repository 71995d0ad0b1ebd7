import type { AgentControlClient } from "../api/agent-control-client.ts";
import type { Cluster, Dependents } from "./runtime/cluster.ts";
import type { KubernetesObject, Manifest, ResourceType } from "./runtime/objects.ts";

/** What the controllers ask of a media agent. */
export type AgentControl = Pick<
  AgentControlClient,
  | "status"
  | "manifest"
  | "objects"
  | "stateFiles"
  | "profile"
  | "setPhase"
  | "setBus"
  | "seal"
  | "reportRelocation"
  | "unseal"
  | "setRelocationLimit"
  | "setPeers"
  | "unpin"
>;

/** One write, decided upon and not yet done. */
export type Action =
  | { readonly do: "create"; readonly type: ResourceType; readonly object: Manifest }
  | { readonly do: "apply"; readonly type: ResourceType; readonly object: Manifest }
  | { readonly do: "replace"; readonly type: ResourceType; readonly object: Manifest }
  | {
      readonly do: "delete";
      readonly type: ResourceType;
      readonly object: KubernetesObject;
      readonly dependents?: Dependents;
    }
  | { readonly do: "agent"; readonly what: string; readonly call: (agent: AgentControl) => Promise<void> }
  /** Makes an object that holds fresh random material; decided upon only where there is none. */
  | { readonly do: "generate"; readonly type: ResourceType; readonly make: () => Promise<Manifest> };

export function create(type: ResourceType, object: Manifest): Action {
  return { do: "create", type, object };
}

export function remove(type: ResourceType, object: KubernetesObject): Action {
  return { do: "delete", type, object };
}

/** The deletion of what is there and not being deleted already: that is only waited for. */
export function removeIfThere(type: ResourceType, object: KubernetesObject | undefined): Action[] {
  return object === undefined || object.metadata.deletionTimestamp !== undefined ? [] : [remove(type, object)];
}

/** Deletes exactly what was read, and leaves what it owns. */
export function removeAlone(type: ResourceType, object: KubernetesObject): Action {
  return { do: "delete", type, object, dependents: "Orphan" };
}

/**
 * Does them in order and stops at the first that fails.
 *
 * @param mayAct throws when this replica leads no more; asked before each word to the agent. The cluster asks for itself.
 */
export async function perform(
  actions: readonly Action[],
  cluster: Cluster,
  agent: AgentControl | undefined,
  mayAct: () => void = () => undefined,
): Promise<void> {
  for (const action of actions) {
    if (action.do === "create") await cluster.create(action.type, action.object);
    else if (action.do === "apply") await cluster.apply(action.type, action.object);
    else if (action.do === "replace") await cluster.replace(action.type, action.object);
    else if (action.do === "delete") await cluster.delete(action.type, action.object, action.dependents);
    else if (action.do === "generate") await cluster.create(action.type, await action.make());
    else if (agent !== undefined) {
      mayAct();
      await action.call(agent);
    }
  }
}
