import type { VMRestore } from "../../../api/vm-restore.ts";
import { silentLogger } from "../../../base/logging.ts";
import { VM_RESTORES } from "../../kinds.ts";
import type { Cluster } from "../../runtime/cluster.ts";
import { isConflict } from "../../runtime/errors.ts";
import { EventRecorder } from "../../runtime/event-recorder.ts";
import { OperatorMetrics } from "../../runtime/metrics.ts";
import { RestoreReconciler, type RestoreReconcilerOptions } from "../reconcile.ts";
import type { Course } from "./courses.ts";
import { OWN, TENANT, World } from "./world.ts";

const METRICS = new OperatorMetrics();

/** The operator was killed. */
export class Crash extends Error {}

/**
 * An operator that was just started.
 *
 * @param cluster what it reaches the world's cluster through
 */
export function operatorIn(
  world: World,
  cluster: Cluster = world.cluster,
  options: Partial<Omit<RestoreReconcilerOptions, "cluster" | "clock">> = {},
): RestoreReconciler {
  const { clock } = world;
  return new RestoreReconciler({
    cluster,
    settings: { namespace: OWN, image: "vmrestore" },
    clock,
    events: new EventRecorder(cluster, clock, silentLogger),
    metrics: METRICS,
    logger: silentLogger,
    connector: world.connect,
    ...options,
  });
}

export function restoreIn(world: World, name = "orders-db"): VMRestore | undefined {
  return world.cluster.peek(VM_RESTORES, TENANT, name);
}

/** Reconciles and lets the world go on, a second at a time, until `until` or for `rounds`. A crash starts a new operator. */
export async function play(
  world: World,
  until: (restore: VMRestore | undefined) => boolean,
  rounds = 200,
): Promise<VMRestore | undefined> {
  let operator = operatorIn(world);
  for (let round = 0; round < rounds; round++) {
    if (until(restoreIn(world))) return restoreIn(world);
    try {
      await operator.reconcile(TENANT, "orders-db");
    } catch (error) {
      if (error instanceof Crash) operator = operatorIn(world);
      else if (!isConflict(error)) throw error;
    }
    world.step();
    await world.clock.advance(1000);
  }
  if (until(restoreIn(world))) return restoreIn(world);
  const { phase, message } = restoreIn(world)?.status ?? {};
  throw new Error(`not reached after ${rounds} rounds: ${phase}: ${message}`);
}

export function phaseIs(phase: string): (restore: VMRestore | undefined) => boolean {
  return (restore) => restore?.status?.phase === phase;
}

/** Plays a course, a second at a time. @returns the world at its end. */
export async function playCourse(
  course: Course,
  options: {
    readonly prepare?: (world: World) => void;
    /** Called whenever an operator starts: what it reaches the world's cluster through. */
    readonly reach?: (world: World) => Cluster;
    /** Called before each reconcile. */
    readonly round?: (world: World) => void;
    /** What a reconcile may fail with; it is repeated. A conflict always is. */
    readonly mayFail?: (error: unknown) => boolean;
  } = {},
): Promise<World> {
  const world = new World();
  course.before?.(world);
  world.restore(course.spec);
  options.prepare?.(world);
  const start = () => operatorIn(world, options.reach?.(world));
  let operator = start();
  const deeds = [...course.deeds];
  const rounds = 400;
  for (let round = 0; round < rounds; round++) {
    const restore = restoreIn(world);
    if (deeds[0]?.when(restore, world) === true) deeds.shift()?.what(world);
    if (deeds.length === 0 && course.until(restoreIn(world), world)) return world;
    options.round?.(world);
    try {
      await operator.reconcile(TENANT, "orders-db");
    } catch (error) {
      if (error instanceof Crash) operator = start();
      else if (!isConflict(error) && options.mayFail?.(error) !== true) throw error;
    }
    world.step();
    await world.clock.advance(1000);
  }
  const { phase, message } = restoreIn(world)?.status ?? {};
  throw new Error(`${course.name}: not at its end after ${rounds} rounds: ${phase}: ${message}`);
}
