import { createHash } from "node:crypto";
import { canonicalJson } from "./canonical-json.ts";
import {
  type Condition,
  claimNameOf,
  hasCondition,
  type VirtualMachine,
  type VirtualMachineInstance,
} from "./kinds.ts";
import { MANUAL_RECOVERY, VOLUMES_CHANGE } from "./volume-update.ts";

/** On an instance: what the machine's template was when it started. */
export const TEMPLATE_ANNOTATION = "lab.vmrestore.io/template";
/** The same without the claims of its volumes. */
export const UNCLAIMED_ANNOTATION = "lab.vmrestore.io/template-without-claims";
/** Conditions of the instance that KubeVirt shows on the machine, too. */
const MIRRORED = ["AgentConnected", "Paused", "LiveMigratable", "StorageLiveMigratable", VOLUMES_CHANGE];

/** What a VirtualMachine wants, and what is to be said about it. */
export interface VirtualMachineDecision {
  readonly createInstance: boolean;
  readonly deleteInstance: boolean;
  /** The machine is being deleted and nothing of it runs any more. */
  readonly mayGo: boolean;
  readonly printableStatus: string;
  readonly created: boolean;
  readonly ready: boolean;
  readonly conditions: readonly Condition[];
}

/** KubeVirt's run strategies (user guide, "Run strategies"); `running` is their forerunner. */
export function runStrategyOf({ spec }: VirtualMachine): string {
  if (spec.runStrategy !== undefined) return spec.runStrategy;
  return spec.running === true ? "Always" : "Halted";
}

/** Decides by the machine and its instance alone. `Manual` neither starts nor stops anything: that is for whoever makes instances. */
export function decideVirtualMachine(
  machine: VirtualMachine,
  instance: VirtualMachineInstance | undefined,
  /** What became of a change of its volumes. */
  volumes: { readonly restart?: string; readonly needsRecovery?: boolean } = {},
): VirtualMachineDecision {
  const isDeleted = machine.metadata.deletionTimestamp !== undefined;
  const strategy = isDeleted ? "Halted" : runStrategyOf(machine);
  const phase = instance?.status?.phase;
  const isFinal = phase === "Succeeded" || phase === "Failed";
  const wantsInstance = strategy === "Always" || strategy === "RerunOnFailure" || strategy === "Once";
  const mayStayFinal = strategy === "Once" || (strategy === "RerunOnFailure" && phase === "Succeeded");
  const mustGo = strategy === "Halted" || (isFinal && wantsInstance && !mayStayFinal);
  return {
    createInstance: instance === undefined && wantsInstance && volumes.needsRecovery !== true,
    deleteInstance: instance !== undefined && mustGo && instance.metadata.deletionTimestamp === undefined,
    mayGo: isDeleted && instance === undefined,
    printableStatus: isDeleted ? "Terminating" : printableStatus(instance, wantsInstance),
    created: instance !== undefined,
    ready: hasCondition(instance, "Ready"),
    conditions: [
      ...conditionsOf(machine, instance, volumes.restart),
      ...(volumes.needsRecovery === true ? [recovery()] : []),
    ],
  };
}

function recovery(): Condition {
  const reason = "VMIRemovedDuringVolumeMigration";
  const message = "VMI was removed or was final during the volume migration";
  return { type: MANUAL_RECOVERY, status: "True", reason, message };
}

function printableStatus(instance: VirtualMachineInstance | undefined, wantsInstance: boolean): string {
  if (instance === undefined) return wantsInstance ? "Starting" : "Stopped";
  const { phase, conditions = [] } = instance.status ?? {};
  if (phase === "Succeeded" || phase === "Failed") return "Stopped";
  if (instance.metadata.deletionTimestamp !== undefined) return "Stopping";
  if (phase === "Running") return hasCondition(instance, "Paused") ? "Paused" : "Running";
  const failed = conditions.find(({ type, status }) => type === "Synchronized" && status === "False");
  return failed?.reason === "FailedPvcNotFound" ? "ErrorPvcNotFound" : "Starting";
}

function conditionsOf(
  machine: VirtualMachine,
  instance: VirtualMachineInstance | undefined,
  restart: string | undefined,
): Condition[] {
  const ready: Condition = hasCondition(instance, "Ready")
    ? { type: "Ready", status: "True" }
    : {
        ...{ type: "Ready", status: "False" },
        ...(instance === undefined
          ? { reason: "VMINotExists", message: "VMI does not exist" }
          : { reason: "GuestNotRunning", message: "Guest VM is not reported as running" }),
      };
  const conditions = [ready];
  for (const condition of instance?.status?.conditions ?? []) {
    if (MIRRORED.includes(condition.type)) conditions.push(condition);
  }
  const message = hasChanged(machine, instance)
    ? "a non-live-updatable field was changed in the template spec"
    : restart;
  if (message !== undefined)
    conditions.push({ ...{ type: "RestartRequired", status: "True", reason: "RestartRequired" }, message });
  return conditions;
}

/** Whether the template is another than the instance was started from. Claims of volumes may change where they are migrated. */
function hasChanged(machine: VirtualMachine, instance: VirtualMachineInstance | undefined): boolean {
  const migrates = machine.spec.updateVolumesStrategy === "Migration";
  const started = instance?.metadata.annotations?.[migrates ? UNCLAIMED_ANNOTATION : TEMPLATE_ANNOTATION];
  return started !== undefined && started !== (migrates ? unclaimedDigest(machine) : templateDigest(machine));
}

/** Says whether two templates are the same, whatever the order of their fields. */
export function templateDigest({ spec }: VirtualMachine): string {
  return digest(spec.template.spec);
}

export function unclaimedDigest({ spec }: VirtualMachine): string {
  const volumes = (spec.template.spec.volumes ?? []).map((volume) =>
    claimNameOf(volume) === undefined ? volume : { name: volume.name },
  );
  return digest({ ...spec.template.spec, volumes });
}

function digest(value: object): string {
  return createHash("sha256").update(canonicalJson(value)).digest("hex").slice(0, 32);
}
