import { parseDuration } from "../../api/duration.ts";
import { conditionOf } from "../conditions.ts";
import type { VirtualMachineInstance } from "../kinds.ts";
import { runStrategyOf } from "./machine-update.ts";
import { conditionsBefore, type Observed } from "./observed.ts";

/** Whether the guest is ready now, by the probe of the spec. */
export function isGuestReady({ instance, spec }: Pick<Observed, "instance" | "spec">): boolean {
  if (instance === undefined || instance.metadata.deletionTimestamp !== undefined) return false;
  if (instance.status?.phase !== "Running") return false;
  if (spec.launch.guestReady.probe === "Running") return true;
  return (
    instance.status.conditions?.some(({ type, status }) => type === "AgentConnected" && status === "True") ?? false
  );
}

export function hasEnded({ status }: VirtualMachineInstance): boolean {
  return status?.phase === "Succeeded" || status?.phase === "Failed";
}

/** Reasons of a guest that is not ready and will not be before people start its machine. */
export const STOPPED_REASONS = ["Halted", "NotStarted", "Ended"];

/**
 * Whether the first boot took longer than the spec allows. Counted from the machine's creation, or, where people start it, from when that
 * was seen: KubeVirt does not start every machine by itself.
 */
export function isGuestLate(observed: Observed): boolean {
  const { restore, machine, spec, now } = observed;
  const before = conditionOf(conditionsBefore(observed), "GuestReady")?.reason ?? "";
  if (STOPPED_REASONS.includes(before)) return false;
  const made = Date.parse(machine?.metadata.creationTimestamp ?? "");
  const { condition, reason, since } = restore.status?.waiting ?? {};
  const isBooting = condition === "GuestReady" && reason === "Booting" && since !== undefined;
  return now - (isBooting ? Math.max(made, Date.parse(since)) : made) > parseDuration(spec.launch.guestReady.timeout);
}

/**
 * Why a machine does not run, and will not before people start it; undefined where KubeVirt starts it. KubeVirt's run strategies: Manual
 * starts nothing, Once nothing twice, and RerunOnFailure nothing that shut itself down.
 */
export function whyStopped({ machine, instance }: Observed): { reason: string; message: string } | undefined {
  if (machine === undefined) return undefined;
  const { name, namespace } = machine.metadata;
  const strategy = runStrategyOf(machine);
  const start = `\`virtctl start ${name} --namespace ${namespace}\``;
  const otherwise = "or set spec.relocation.begin to Immediately to have its disks relocated as they are";
  if (instance === undefined) {
    if (strategy === "Halted")
      return { reason: "Halted", message: `The machine is halted. Start it with ${start}, ${otherwise}.` };
    if (strategy !== "Manual") return undefined;
    const message = `The machine waits for you: its run strategy is Manual, so nobody else starts it. Run ${start}, ${otherwise}.`;
    return { reason: "NotStarted", message };
  }
  const isRunAgain = strategy === "Always" || (strategy === "RerunOnFailure" && instance.status?.phase === "Failed");
  if (!hasEnded(instance) || isRunAgain || instance.metadata.deletionTimestamp !== undefined) return undefined;
  const how = instance.status?.phase === "Failed" ? "failed" : "shut down";
  const again = strategy === "Once" ? "set the machine's spec.runStrategy to Always" : `run ${start}`;
  const message = `The guest ${how} before it was ready, and its run strategy ${strategy} does not start it again. To start it, ${again}; ${otherwise}.`;
  return { reason: "Ended", message };
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
