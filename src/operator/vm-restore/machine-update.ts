import type { Action } from "../actions.ts";
import { VIRTUAL_MACHINES, type VirtualMachine } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import { claimOfVolume } from "./served-claims.ts";

/** What of a machine is to be another than it is. What is undefined goes. */
export interface MachineChange {
  readonly annotations?: Readonly<Record<string, string | undefined>>;
  readonly spec?: Readonly<Record<string, unknown>>;
}

/** The run strategy of a machine, whichever of the two fields says it. */
export function runStrategyOf({ spec }: VirtualMachine): string {
  return spec?.runStrategy ?? (spec?.running === false ? "Halted" : "Always");
}

/** A whole replacement of what was read: a machine that changed meanwhile is read again first. */
export function updateMachine(machine: VirtualMachine, change: MachineChange): Action {
  const annotations = withoutUndefined({ ...machine.metadata.annotations, ...change.annotations });
  // The forerunner of the run strategy: a machine has one of the two.
  const forerunner = change.spec?.runStrategy === undefined ? {} : { running: undefined };
  const object = {
    ...machine,
    metadata: { ...machine.metadata, annotations },
    spec: withoutUndefined({ ...machine.spec, ...forerunner, ...change.spec }),
  };
  return { do: "replace", type: VIRTUAL_MACHINES, object: object as unknown as Manifest };
}

/**
 * The machine's template with other claims. By claim, not by volume: people may have renamed a volume meanwhile, and none may be left
 * on a claim that goes.
 *
 * @param claims the new name of a claim by the one that it has now; others stay
 */
export function templateOn(
  machine: VirtualMachine,
  claims: ReadonlyMap<string, string>,
): NonNullable<VirtualMachine["spec"]>["template"] {
  const template = machine.spec?.template;
  const volumes = (template?.spec?.volumes ?? []).map((volume) => {
    const claimName = claims.get(claimOfVolume(volume) ?? "");
    if (claimName === undefined) return volume;
    const { name: _, ...options } = (volume.dataVolume ?? {}) as { name?: unknown };
    // The new claim is no DataVolume's, whatever the old one was named by; how it is plugged in both say alike.
    return { name: volume.name, persistentVolumeClaim: { ...(volume.persistentVolumeClaim ?? options), claimName } };
  });
  return { ...template, spec: { ...template?.spec, volumes } };
}

function withoutUndefined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}
