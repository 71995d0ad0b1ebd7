import { randomUUID } from "node:crypto";
import { VOLUME_CLAIMS, type VolumeClaim } from "../controllers/kinds.ts";
import {
  controllerKey,
  controllerReference,
  isControlledBy,
  type LabContext,
  ownKey,
  runLabController,
} from "../controllers/lab-controller.ts";
import { canonicalJson } from "./canonical-json.ts";
import {
  type Condition,
  INSTANCES,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  type VirtualMachineInstance,
} from "./kinds.ts";
import {
  decideVirtualMachine,
  runStrategyOf,
  TEMPLATE_ANNOTATION,
  templateDigest,
  UNCLAIMED_ANNOTATION,
  unclaimedDigest,
} from "./virtual-machine.ts";
import { updateVolumes, volumeUpdateStatus } from "./volume-update.ts";

/** KubeVirt's: keeps a machine's object until its instance is gone. */
const MACHINE_FINALIZER = "kubevirt.io/virtualMachineControllerFinalize";
/** KubeVirt's: keeps an instance's object until its launcher pod is gone. */
export const INSTANCE_FINALIZER = "foregroundDeleteVirtualMachine";

const CLAIM_RETRY_MS = 1000;

/** What KubeVirt's virt-controller does for VirtualMachines: instances come and go as the run strategy says. */
export function runVirtualMachineController(context: LabContext, signal: AbortSignal): Promise<void> {
  const { cluster } = context;
  const reconcile = async (namespace: string, name: string): Promise<number | undefined> => {
    const machine = await cluster.get(VIRTUAL_MACHINES, namespace, name);
    if (machine === undefined) return undefined;
    const completed = completeMachine(machine);
    if (completed !== undefined) {
      await cluster.replace(VIRTUAL_MACHINES, completed as never);
      return undefined;
    }
    const found = await cluster.get(INSTANCES, namespace, name);
    const instance = found !== undefined && isControlledBy(found, machine) ? found : undefined;
    const update = updateVolumes(machine, instance, await claimsOf(cluster, machine, instance));
    // Told by the next look, which sees what was written.
    if (update.instance !== undefined && !isSame(instance, update.instance))
      await cluster.replace(INSTANCES, update.instance as never);
    const { migrated, needsRecovery } = volumeUpdateStatus(machine, update.instance ?? instance, update.migrated);
    const restart = update.restart === undefined ? {} : { restart: update.restart };
    const decision = decideVirtualMachine(machine, instance, { ...restart, needsRecovery });
    if (decision.mayGo) {
      await cluster.replace(VIRTUAL_MACHINES, withoutFinalizer(machine) as never);
      return undefined;
    }
    if (decision.createInstance && found === undefined) await cluster.create(INSTANCES, instanceOf(machine) as never);
    if (decision.deleteInstance && instance !== undefined) await cluster.delete(INSTANCES, instance);
    const { printableStatus, created, ready } = decision;
    const generation = machine.metadata.generation ?? 1;
    const status = {
      ...{ printableStatus, created, ready, runStrategy: runStrategyOf(machine) },
      ...{ observedGeneration: generation, desiredGeneration: generation },
      conditions: withTimes(
        update.error === undefined ? decision.conditions : [...decision.conditions, failure(update.error)],
        machine.status?.conditions ?? [],
        context.clock.now(),
      ),
      volumeUpdateState: migrated === undefined ? undefined : { volumeMigrationState: { migratedVolumes: migrated } },
    };
    // Claims are not watched: one that is missing may come.
    const again = update.instance !== undefined && migrated === undefined ? CLAIM_RETRY_MS : undefined;
    if (isSame(machine.status, status)) return again;
    await cluster.applyStatus(VIRTUAL_MACHINES, {
      ...{ apiVersion: machine.apiVersion, kind: machine.kind, metadata: { name, namespace }, status },
    });
    return again;
  };
  const watches = [
    { type: VIRTUAL_MACHINES, keys: ownKey },
    { type: INSTANCES, keys: controllerKey("VirtualMachine") },
  ];
  return runLabController({ name: "virtual-machine", watches, reconcile }, context, signal);
}

/** Claims that a change of the volumes is about; few machines have any. */
async function claimsOf(
  cluster: LabContext["cluster"],
  { metadata, spec }: VirtualMachine,
  instance: VirtualMachineInstance | undefined,
): Promise<Map<string, VolumeClaim>> {
  if (instance === undefined || spec.updateVolumesStrategy !== "Migration") return new Map();
  const claims = await cluster.list(VOLUME_CLAIMS, metadata.namespace);
  return new Map(claims.map((claim) => [claim.metadata.name, claim]));
}

function failure(message: string): Condition {
  const text = `error encountered while handling volumes update requests: ${message}`;
  return { type: "Failure", status: "True", reason: "VolumesUpdateError", message: text };
}

/**
 * A machine as KubeVirt's webhook would have stored it: with a finalizer, and with a firmware identity where the manifest has
 * none. Undefined where nothing is missing.
 */
function completeMachine(machine: VirtualMachine): VirtualMachine | undefined {
  const { metadata, spec } = machine;
  if (metadata.deletionTimestamp !== undefined) return undefined;
  const finalizers = metadata.finalizers ?? [];
  const domain = spec.template.spec.domain ?? {};
  const { uuid, serial } = domain.firmware ?? {};
  if (finalizers.includes(MACHINE_FINALIZER) && isGiven(uuid) && isGiven(serial)) return undefined;
  const firmware = {
    ...domain.firmware,
    uuid: isGiven(uuid) ? uuid : randomUUID(),
    serial: isGiven(serial) ? serial : randomUUID(),
  };
  const template = { ...spec.template, spec: { ...spec.template.spec, domain: { ...domain, firmware } } };
  return {
    ...machine,
    metadata: { ...metadata, finalizers: [...new Set([...finalizers, MACHINE_FINALIZER])] },
    spec: { ...spec, template },
  };
}

function isGiven(text: string | undefined): text is string {
  return text !== undefined && text !== "";
}

function withoutFinalizer(machine: VirtualMachine): VirtualMachine {
  const finalizers = (machine.metadata.finalizers ?? []).filter((name) => name !== MACHINE_FINALIZER);
  return { ...machine, metadata: { ...machine.metadata, finalizers } };
}

function instanceOf(machine: VirtualMachine): VirtualMachineInstance {
  const { name, namespace = "" } = machine.metadata;
  const { metadata = {}, spec } = machine.spec.template;
  return {
    apiVersion: INSTANCES.apiVersion,
    kind: "VirtualMachineInstance",
    metadata: {
      ...{ name, namespace, labels: { ...metadata.labels, "vm.kubevirt.io/name": name } },
      annotations: { ...metadata.annotations, ...templateAnnotations(machine) },
      finalizers: [INSTANCE_FINALIZER],
      ownerReferences: [controllerReference(machine) as never],
    },
    spec,
  };
}

function templateAnnotations(machine: VirtualMachine): Record<string, string> {
  return { [TEMPLATE_ANNOTATION]: templateDigest(machine), [UNCLAIMED_ANNOTATION]: unclaimedDigest(machine) };
}

/** Conditions keep the time of their last change. */
export function withTimes(conditions: readonly Condition[], before: readonly Condition[], now: number): Condition[] {
  return conditions.map((condition) => {
    const old = before.find(({ type }) => type === condition.type);
    const kept = old?.status === condition.status ? old.lastTransitionTime : undefined;
    return { ...condition, lastTransitionTime: kept ?? new Date(now).toISOString().replace(/\.\d+/, "") };
  });
}

/** Whether a status already says all that is wanted. */
export function isSame(old: object | undefined, wanted: object): boolean {
  const before = old as Record<string, unknown> | undefined;
  return Object.entries(wanted).every(
    ([name, value]) => canonicalJson(before?.[name] ?? null) === canonicalJson(value ?? null),
  );
}
