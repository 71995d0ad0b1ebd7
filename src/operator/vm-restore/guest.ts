import { parseDuration } from "../../api/duration.ts";
import type { Observed } from "./observed.ts";

/** Whether the guest is ready now, by the probe of the spec. */
export function isGuestReady({ instance, spec }: Pick<Observed, "instance" | "spec">): boolean {
  if (instance === undefined || instance.metadata.deletionTimestamp !== undefined) return false;
  if (instance.status?.phase !== "Running") return false;
  if (spec.launch.guestReady.probe === "Running") return true;
  return (
    instance.status.conditions?.some(({ type, status }) => type === "AgentConnected" && status === "True") ?? false
  );
}

/** Whether the first boot took longer than the spec allows. */
export function isGuestLate({ machine, spec, now }: Observed): boolean {
  const made = Date.parse(machine?.metadata.creationTimestamp ?? "");
  return now - made > parseDuration(spec.launch.guestReady.timeout);
}

/** Why the machine does not run, where KubeVirt says so. */
export function guestTrouble({ instance }: Observed): string | undefined {
  const paused = instance?.status?.conditions?.find(({ type, status }) => type === "Paused" && status === "True");
  if (paused !== undefined) return `The machine is paused: ${paused.message ?? paused.reason ?? "no reason given"}.`;
  const synchronized = instance?.status?.conditions?.find(
    ({ type, status }) => type === "Synchronized" && status === "False",
  );
  return synchronized?.message === undefined ? undefined : `The machine does not start: ${synchronized.message}`;
}
