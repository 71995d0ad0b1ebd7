import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import type { Cluster } from "../../operator/runtime/cluster.ts";
import { isConflict } from "../../operator/runtime/errors.ts";
import type { KubernetesObject, ResourceType } from "../../operator/runtime/objects.ts";
import { Reflector } from "../../operator/runtime/reflector.ts";
import type { Transport } from "../../operator/runtime/transport.ts";
import { WorkQueue } from "../../operator/runtime/work-queue.ts";
import type { LabObject } from "./kinds.ts";

/** What every part of the lab that acts on the cluster is given. */
export interface LabContext {
  readonly cluster: Cluster;
  readonly transport: Pick<Transport, "request" | "watch">;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Watched {
  readonly type: ResourceType;
  /** The keys to reconcile when such an object changes: `namespace/name`, or `/name` without a namespace. */
  readonly keys: (object: LabObject) => readonly string[];
}

interface LabController {
  readonly name: string;
  readonly watches: readonly Watched[];
  /** Milliseconds until it should be called again; undefined: on a change only. */
  readonly reconcile: (namespace: string, name: string) => Promise<number | undefined>;
  /** Is given the way to have a key reconciled when something outside of the cluster changed. */
  readonly started?: (enqueue: (key: string) => void) => void;
}

const RETRY = { baseMs: 100, maxMs: 5000 };

/** Watches, and reconciles one key at a time, until the signal. */
export async function runLabController(
  controller: LabController,
  context: LabContext,
  signal: AbortSignal,
): Promise<void> {
  const queue = new WorkQueue(context.clock, RETRY);
  const logger = context.logger.child({ controller: controller.name });
  const reflectors = controller.watches.map(({ type, keys }) => {
    const onChange = (object: KubernetesObject): void => {
      for (const key of keys(object as LabObject)) queue.add(key);
    };
    return new Reflector({ transport: context.transport, type, onChange, clock: context.clock, logger }).run(signal);
  });
  controller.started?.((key) => queue.add(key));
  signal.addEventListener("abort", () => queue.close(), { once: true });
  for (let key = await queue.take(); key !== undefined; key = await queue.take()) {
    const slash = key.indexOf("/");
    try {
      const again = await controller.reconcile(key.slice(0, slash), key.slice(slash + 1));
      queue.forget(key);
      if (again !== undefined) queue.addAfter(key, again);
    } catch (error) {
      if (!signal.aborted && !isConflict(error)) logger.warn({ key, error: errorMessage(error) }, "reconcile failed");
      queue.addRateLimited(key);
    } finally {
      queue.done(key);
    }
  }
  await Promise.allSettled(reflectors);
}

/** The object's own key. */
export function ownKey({ metadata }: LabObject): string[] {
  return [`${metadata.namespace ?? ""}/${metadata.name}`];
}

/** The key of the object of this kind that controls it. */
export function controllerKey(kind: string): (object: LabObject) => string[] {
  return ({ metadata }) => {
    const owner = metadata.ownerReferences?.find(
      (reference) => reference.controller === true && reference.kind === kind,
    );
    return owner === undefined ? [] : [`${metadata.namespace ?? ""}/${owner.name}`];
  };
}

/** A reference that makes `owner` the controller of what carries it. */
export function controllerReference(owner: LabObject): object {
  const { apiVersion, kind, metadata } = owner;
  return { apiVersion, kind, name: metadata.name, uid: metadata.uid, controller: true, blockOwnerDeletion: true };
}

export function isControlledBy(object: LabObject, owner: LabObject): boolean {
  return (object.metadata.ownerReferences ?? []).some(
    ({ uid, controller }) => controller === true && uid === owner.metadata.uid,
  );
}
