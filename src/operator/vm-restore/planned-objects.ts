import { CLAIMS, JOBS, SECRETS, SERVICES, STATEFUL_SETS, VIRTUAL_MACHINES, VOLUMES } from "../kinds.ts";
import type { ResourceType } from "../runtime/objects.ts";
import { usesTargets } from "./cutover-state.ts";
import { defaultClass } from "./default-class.ts";
import { restoreNames } from "./names.ts";
import type { Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { targetOf } from "./relocation-objects.ts";

/** Something that a restore makes in the course of its life. */
export interface PlannedObject {
  readonly type: ResourceType;
  /** Undefined for what belongs to no namespace. */
  readonly namespace: string | undefined;
  readonly name: string;
  /** Of a claim or volume. */
  readonly bytes?: number;
  /** Of a claim; the empty name where it is bound to a volume of ours. */
  readonly storageClassName?: string;
  /** How many pods it brings. */
  readonly pods?: number;
}

/** Everything that a restore makes, but for what the machine itself refers to. Pure: what is there already is listed, too. */
export function plannedObjects(observed: Observed, plan: Plan): PlannedObject[] {
  const { restore, spec, settings, storageClasses } = observed;
  const own = settings.namespace;
  const namespace = restore.metadata.namespace ?? "";
  const names = restoreNames(restore, spec.virtualMachine.name);
  const usual = defaultClass(storageClasses)?.metadata.name;
  const ofClass = (name: string | undefined) => {
    const storageClassName = name ?? usual;
    return storageClassName === undefined ? {} : { storageClassName };
  };
  // `Auto` may copy.
  const copyJob: PlannedObject[] = [
    { type: SECRETS, namespace, name: names.relocation },
    { type: JOBS, namespace, name: names.relocation, pods: 1 },
  ];
  const relocated: PlannedObject[] = usesTargets(spec)
    ? [
        ...plan.disks.map((disk): PlannedObject => {
          const target = targetOf(spec, disk);
          const bytes = "bytes" in target.size ? target.size.bytes : disk.size;
          return { type: CLAIMS, namespace, name: target.claimName, bytes, ...ofClass(target.storageClassName) };
        }),
        ...(spec.relocation.strategy === "LiveMigration" ? [] : copyJob),
      ]
    : [];
  return [
    ...[names.plan, names.keys, names.tls].map((name): PlannedObject => ({ type: SECRETS, namespace: own, name })),
    { type: SERVICES, namespace: own, name: names.agent },
    {
      type: CLAIMS,
      namespace: own,
      name: names.overlay,
      bytes: plan.overlay.bytes,
      ...ofClass(plan.overlay.storageClassName),
    },
    {
      type: CLAIMS,
      namespace: own,
      name: names.cache,
      bytes: plan.cache.bytes,
      ...ofClass(plan.cache.storageClassName),
    },
    { type: STATEFUL_SETS, namespace: own, name: names.agent, pods: 1 },
    ...plan.disks.flatMap(({ name, size }): PlannedObject[] => {
      const served = names.served(name);
      return [
        { type: VOLUMES, namespace: undefined, name: served.volume, bytes: size },
        { type: CLAIMS, namespace, name: served.claim, bytes: size, storageClassName: "" },
      ];
    }),
    ...(spec.replace === undefined ? [] : [{ type: SECRETS, namespace, name: names.replaced }]),
    { type: VIRTUAL_MACHINES, namespace, name: spec.virtualMachine.name, pods: 1 },
    ...relocated,
  ];
}
