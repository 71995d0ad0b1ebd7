import { arrayAt, copyJson, equalJson, isObject, type JsonObject, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { forbiddenField, type KindStrategy, setDefaults } from "./kind.ts";
import { defaultPodSpec, validatePodSpec } from "./pod-spec.ts";

const RESTART_POLICIES = ["Always", "OnFailure", "Never"];

export const podStrategy: KindStrategy = {
  applyDefaults: (pod) => {
    pod.spec = objectAt(pod, "spec");
    defaultPodSpec(pod.spec);
    setDefaults(pod.spec, { enableServiceLinks: true });
  },
  prepareCreate: (pod) => {
    pod.status = { phase: "Pending", qosClass: qosClass(objectAt(pod, "spec")) };
  },
  validateCreate: (pod) => validatePodSpec(objectAt(pod, "spec"), "spec", RESTART_POLICIES),
  validateUpdate: (pod, old) => {
    const binds = stringAt(old, "spec", "nodeName") === "";
    if (equalJson(fixedPart(pod, binds), fixedPart(old, binds))) return [];
    const why =
      "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    return [forbiddenField("spec", why)];
  },
};

/** @param binds the pod has no node yet, and may be given one through the `binding` subresource */
function fixedPart(pod: KubeObject, binds: boolean): JsonObject {
  const spec = copyJson(objectAt(pod, "spec"));
  for (const list of ["containers", "initContainers"]) {
    for (const container of arrayAt(spec, list)) if (isObject(container)) delete container.image;
  }
  for (const key of ["activeDeadlineSeconds", "tolerations", "schedulingGates"]) delete spec[key];
  if (binds) delete spec.nodeName;
  return spec;
}

/** Guaranteed where every container's limits equal its requests for CPU and memory, BestEffort where there are none. */
function qosClass(spec: JsonObject): string {
  const resources = ["containers", "initContainers"]
    .flatMap((list) => arrayAt(spec, list))
    .map((container) => objectAt(container, "resources"));
  const compute = (values: JsonObject) => ["cpu", "memory"].filter((name) => values[name] !== undefined);
  const isIdle = resources.every(
    ({ limits, requests }) => compute(objectAt(limits)).length === 0 && compute(objectAt(requests)).length === 0,
  );
  if (isIdle) return "BestEffort";
  const isFixed = resources.every(({ limits, requests }) => {
    const [most, least] = [objectAt(limits), objectAt(requests)];
    return compute(most).length === 2 && equalJson(most.cpu, least.cpu) && equalJson(most.memory, least.memory);
  });
  return isFixed ? "Guaranteed" : "Burstable";
}
