import type { VMRestore } from "../../api/vm-restore.ts";
import { silentLogger } from "../../base/logging.ts";
import { runController } from "../runtime/controller.ts";
import { EventRecorder } from "../runtime/event-recorder.ts";
import { OperatorMetrics } from "../runtime/metrics.ts";
import { PodEvents } from "../runtime/pod-events.ts";
import { WorkQueue } from "../runtime/work-queue.ts";
import { RestoreReconciler } from "../vm-restore/reconcile.ts";
import type { Course } from "../vm-restore/testing/courses.ts";
import { restoreIn } from "../vm-restore/testing/run.ts";
import { OWN, World } from "../vm-restore/testing/world.ts";
import { Watches } from "../watches.ts";
import { FakeTransport } from "./fake-transport.ts";

const METRICS = new OperatorMetrics();

export interface EventDriven {
  readonly world: World;
  readonly transport: FakeTransport;
  /** How often each reconcile asked an agent how it is. */
  readonly asks: readonly number[];
  /** Lets so many seconds pass, with everybody in the world acting once a second. */
  readonly seconds: (count: number) => Promise<void>;
  readonly end: () => Promise<void>;
}

/** An operator as it runs in a cluster: woken by its watches and its own delays only, reading what they know. */
export async function runByEvents(world: World): Promise<EventDriven> {
  const { clock, cluster } = world;
  const transport = new FakeTransport(cluster);
  const over = new AbortController();
  const restores = new WorkQueue(clock);
  const common = { clock, logger: silentLogger };
  const watches = new Watches({
    ...common,
    transport,
    namespace: OWN,
    restores,
    repositories: new WorkQueue(clock),
  });
  const watching = watches.run(over.signal);
  let active = 0;
  // Certificates are made in threads of their own, in real time: the world waits for what was begun.
  const settle = async () => {
    for (let turn = 0; turn < 10 || active > 0; turn++) await clock.advance(0);
  };
  await settle();
  const reconciler = new RestoreReconciler({
    ...common,
    cluster,
    settings: { namespace: OWN, image: "vmrestore" },
    events: new EventRecorder(cluster, clock, silentLogger),
    metrics: METRICS,
    connector: world.connect,
    watched: watches.watched,
    podEvents: new PodEvents({ ...common, transport, queue: restores, signal: over.signal }),
  });
  const asks: number[] = [];
  const reconcile = async (namespace: string, name: string) => {
    active++;
    const before = world.asked;
    try {
      return await reconciler.reconcile(namespace, name);
    } finally {
      active--;
      asks.push(world.asked - before);
    }
  };
  const options = { ...common, name: "vmrestore", queue: restores, reconcile, workers: 2, metrics: METRICS };
  const working = runController(options, over.signal);
  return {
    world,
    transport,
    asks,
    seconds: async (count) => {
      for (let second = 0; second < count; second++) {
        world.step();
        for (let tenth = 0; tenth < 10; tenth++) {
          await clock.advance(100);
          await settle();
        }
      }
    },
    end: async () => {
      over.abort();
      transport.release();
      await settle();
      await Promise.all([watching, working]);
      reconciler.close();
    },
  };
}

/** Plays a course to its end. @param each called before every second */
export async function playByEvents(course: Course, each: (driven: EventDriven) => void = () => undefined) {
  const world = new World();
  course.before?.(world);
  world.restore(course.spec);
  const driven = await runByEvents(world);
  const deeds = [...course.deeds];
  try {
    for (let second = 0; second < 400; second++) {
      const restore: VMRestore | undefined = restoreIn(world);
      if (deeds[0]?.when(restore, world) === true) deeds.shift()?.what(world);
      if (deeds.length === 0 && course.until(restoreIn(world), world)) return driven;
      each(driven);
      await driven.seconds(1);
    }
  } finally {
    await driven.end();
  }
  const { phase, message } = restoreIn(world)?.status ?? {};
  throw new Error(`${course.name}: not at its end: ${phase}: ${message}`);
}
