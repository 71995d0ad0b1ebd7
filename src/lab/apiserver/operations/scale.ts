import { arrayAt, at, copyJson, isObject, type JsonObject, numberAt, setOwn, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { ScalePaths } from "../registry/definition.ts";
import { badRequest } from "../status-error.ts";

/** The `Scale` of autoscaling/v1 that an object shows. */
export function scaleOf(object: KubeObject, paths: ScalePaths): KubeObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector =
    paths.labelSelector === undefined
      ? selectorText(at(object, "spec", "selector"))
      : stringAt(object, ...paths.labelSelector);
  return {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp } as KubeObject["metadata"],
    spec: { replicas: numberAt(object, ...paths.specReplicas) ?? 0 },
    status: { replicas: numberAt(object, ...paths.statusReplicas) ?? 0, ...(selector === "" ? {} : { selector }) },
  };
}

/** @throws StatusError BadRequest */
export function withScale(old: KubeObject, scale: unknown, paths: ScalePaths): KubeObject {
  if (!isObject(scale)) throw badRequest("the body of the request is not a Scale");
  const replicas = numberAt(scale, "spec", "replicas") ?? 0;
  if (!Number.isSafeInteger(replicas) || replicas < 0) throw badRequest(`invalid spec.replicas: ${replicas}`);
  const object = copyJson(old);
  object.metadata.resourceVersion = stringAt(scale, "metadata", "resourceVersion");
  let parent: JsonObject = object;
  for (const key of paths.specReplicas.slice(0, -1)) {
    const below = at(parent, key);
    const next = isObject(below) ? below : {};
    setOwn(parent, key, next);
    parent = next;
  }
  setOwn(parent, paths.specReplicas.at(-1) ?? "replicas", replicas);
  return object;
}

function selectorText(selector: ReturnType<typeof at>): string {
  if (!isObject(selector)) return "";
  const labels = isObject(selector.matchLabels) ? selector.matchLabels : selector.matchExpressions ? {} : selector;
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${String(value)}`);
  const expressions = arrayAt(selector, "matchExpressions").map((expression) => {
    const values = arrayAt(expression, "values").join(",");
    const key = stringAt(expression, "key");
    const operators: Readonly<Record<string, string>> = {
      In: `${key} in (${values})`,
      NotIn: `${key} notin (${values})`,
      Exists: key,
      DoesNotExist: `!${key}`,
    };
    return operators[stringAt(expression, "operator")] ?? "";
  });
  return [...pairs, ...expressions].join(",");
}
