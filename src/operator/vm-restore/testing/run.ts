import type { VMRestore } from "../../../api/vm-restore.ts";
import { silentLogger } from "../../../base/logging.ts";
import { VM_RESTORES } from "../../kinds.ts";
import { isConflict } from "../../runtime/errors.ts";
import { EventRecorder } from "../../runtime/event-recorder.ts";
import { OperatorMetrics } from "../../runtime/metrics.ts";
import { RestoreReconciler } from "../reconcile.ts";
import { OWN, TENANT, type World } from "./world.ts";

/** The operator was killed. */
export class Crash extends Error {}

/** An operator that was just started. */
export function operatorIn(world: World): RestoreReconciler {
  const { cluster, clock } = world;
  return new RestoreReconciler({
    cluster,
    settings: { namespace: OWN, image: "vmrestore" },
    clock,
    events: new EventRecorder(cluster, clock, silentLogger),
    metrics: new OperatorMetrics(),
    logger: silentLogger,
    connector: world.connect,
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
