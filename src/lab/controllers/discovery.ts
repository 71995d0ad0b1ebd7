import type { ResourceType } from "../../operator/runtime/objects.ts";
import type { LabContext } from "./lab-controller.ts";

interface ResourceList {
  readonly resources?: readonly {
    readonly name: string;
    readonly kind: string;
    readonly namespaced: boolean;
    readonly verbs: readonly string[];
  }[];
}

interface GroupList {
  readonly groups?: readonly { readonly name: string; readonly preferredVersion: { readonly groupVersion: string } }[];
}

/** Every kind that the server serves with all of `verbs`, once, in its group's preferred version. */
export async function discoverTypes({ transport }: LabContext, verbs: readonly string[]): Promise<ResourceType[]> {
  const groups = ((await transport.request({ method: "GET", path: "/apis" })) as GroupList).groups ?? [];
  const versions = ["v1", ...groups.map((group) => group.preferredVersion.groupVersion)];
  const types: ResourceType[] = [];
  for (const apiVersion of versions) {
    const path = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const list = (await transport.request({ method: "GET", path })) as ResourceList;
    for (const { name, kind, namespaced, verbs: served } of list.resources ?? []) {
      if (name.includes("/") || !verbs.every((verb) => served.includes(verb))) continue;
      types.push({ apiVersion, kind, plural: name, namespaced });
    }
  }
  return types;
}
