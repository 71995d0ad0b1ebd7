import { randomUUID } from "node:crypto";
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
import { decideVirtualMachine, runStrategyOf, TEMPLATE_ANNOTATION, templateDigest } from "./virtual-machine.ts";

/** KubeVirt's: keeps a machine's object until its instance is gone. */
const MACHINE_FINALIZER = "kubevirt.io/virtualMachineControllerFinalize";
/** KubeVirt's: keeps an instance's object until its launcher pod is gone. */
export const INSTANCE_FINALIZER = "foregroundDeleteVirtualMachine";

/** What KubeVirt's virt-controller does for VirtualMachines: instances come and go as the run strategy says. */
export function runVirtualMachineController(context: LabContext, signal: AbortSignal): Promise<void> {
  const { cluster } = context;
  const reconcile = async (namespace: string, name: string): Promise<undefined> => {
    const machine = await cluster.get(VIRTUAL_MACHINES, namespace, name);
    if (machine === undefined) return;
    const completed = completeMachine(machine);
    if (completed !== undefined) {
      await cluster.replace(VIRTUAL_MACHINES, completed as never);
      return;
    }
    const found = await cluster.get(INSTANCES, namespace, name);
    const instance = found !== undefined && isControlledBy(found, machine) ? found : undefined;
    const decision = decideVirtualMachine(machine, instance);
    if (decision.mayGo) {
      await cluster.replace(VIRTUAL_MACHINES, withoutFinalizer(machine) as never);
      return;
    }
    if (decision.createInstance && found === undefined) await cluster.create(INSTANCES, instanceOf(machine) as never);
    if (decision.deleteInstance && instance !== undefined) await cluster.delete(INSTANCES, instance);
    const { printableStatus, created, ready } = decision;
    const generation = machine.metadata.generation ?? 1;
    const status = {
      ...{ printableStatus, created, ready, runStrategy: runStrategyOf(machine) },
      ...{ observedGeneration: generation, desiredGeneration: generation },
      conditions: withTimes(decision.conditions, machine.status?.conditions ?? [], context.clock.now()),
    };
    if (isSame(machine.status, status)) return;
    await cluster.applyStatus(VIRTUAL_MACHINES, {
      ...{ apiVersion: machine.apiVersion, kind: machine.kind, metadata: { name, namespace }, status },
    });
  };
  const watches = [
    { type: VIRTUAL_MACHINES, keys: ownKey },
    { type: INSTANCES, keys: controllerKey("VirtualMachine") },
  ];
  return runLabController({ name: "virtual-machine", watches, reconcile }, context, signal);
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
      annotations: { ...metadata.annotations, [TEMPLATE_ANNOTATION]: templateDigest(machine) },
      finalizers: [INSTANCE_FINALIZER],
      ownerReferences: [controllerReference(machine) as never],
    },
    spec,
  };
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
