import { arrayAt, isObject, type JsonObject, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";

function containers(pod: KubeObject): JsonObject[] {
  return arrayAt(pod, "status", "containerStatuses").filter(isObject);
}

/** `1/2`: containers that are ready, of all. */
export function readyContainers(pod: KubeObject): string {
  const ready = containers(pod).filter((container) => container.ready === true).length;
  return `${ready}/${arrayAt(pod, "spec", "containers").length}`;
}

export function restarts(pod: KubeObject): string {
  const sum = containers(pod).reduce((total, { restartCount }) => total + Number(restartCount ?? 0), 0);
  return String(sum);
}

/** What `kubectl get pods` shows as status: why a container does not run, where one does not, else the phase. */
export function podStatus(pod: KubeObject): string {
  if (pod.metadata.deletionTimestamp !== undefined) return "Terminating";
  const reason = stringAt(pod, "status", "reason");
  if (reason !== "") return reason;
  for (const container of containers(pod).reverse()) {
    const waiting = stringAt(container, "state", "waiting", "reason");
    if (waiting !== "") return waiting;
    const terminated = objectAt(container, "state", "terminated");
    if (Object.keys(terminated).length === 0) continue;
    const code = Number(terminated.exitCode ?? 0);
    return stringAt(terminated, "reason") || (code === 0 ? "Completed" : `ExitCode:${code}`);
  }
  return stringAt(pod, "status", "phase") || "Unknown";
}
