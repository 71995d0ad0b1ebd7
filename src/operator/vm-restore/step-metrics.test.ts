import { expect, test } from "@jest/globals";
import { OperatorMetrics } from "../runtime/metrics.ts";
import { operatorIn, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

async function until(world: World, metrics: OperatorMetrics, phase: string): Promise<void> {
  const operator = operatorIn(world, world.cluster, { metrics });
  for (let round = 0; round < 200 && restoreIn(world)?.status?.phase !== phase; round++) {
    await operator.reconcile(TENANT, "orders-db").catch(() => undefined);
    world.step();
    await world.clock.advance(1000);
  }
}

/** Of a histogram, by step: how often, and how many seconds in all. */
async function counted(metrics: OperatorMetrics, name: string) {
  const { values } = (await metrics.registry.getSingleMetric(name)?.get()) ?? { values: [] };
  const of = (suffix: string) =>
    Object.fromEntries(
      values.flatMap((value) =>
        "metricName" in value && value.metricName === `${name}_${suffix}`
          ? [[value.labels.step ?? "", value.value]]
          : [],
      ),
    );
  return { count: of("count"), sum: of("sum") };
}

test("each step counts once, with the time that the status tells", async () => {
  const world = new World();
  const metrics = new OperatorMetrics();
  world.restore();
  await until(world, metrics, "Completed");
  const timeline = restoreIn(world)?.status?.timeline ?? [];
  expect(timeline.map(({ step }) => step)).toEqual(
    expect.arrayContaining(["Pending", "Preparing", "Staging", "Launching", "Relocating", "CuttingOver"]),
  );
  const { count, sum } = await counted(metrics, "vmrestore_restore_step_seconds");
  expect(count).toEqual(Object.fromEntries(timeline.map(({ step }) => [step, 1])));
  for (const { step, startedAt, finishedAt } of timeline)
    expect([step, sum[step]]).toEqual([step, (Date.parse(finishedAt ?? "") - Date.parse(startedAt)) / 1000]);
  const ready = await counted(metrics, "vmrestore_restore_ready_seconds");
  expect(ready.count).toEqual({ "": 1 });
  expect(`${ready.sum[""]}s`).toBe(restoreIn(world)?.status?.timeToGuestReady);
});

test("a step that is late counts once, and stands in the status until it ends", async () => {
  const world = new World();
  const metrics = new OperatorMetrics();
  world.guestReady = false;
  world.restore({ launch: { guestReady: { timeout: "20s" } } });
  await until(world, metrics, "Launching");
  await world.clock.advance(40_000);
  await until(world, metrics, "nothing");
  const late = (await metrics.registry.getSingleMetric("vmrestore_restore_steps_late_total")?.get())?.values;
  expect(late).toEqual([expect.objectContaining({ labels: { step: "Launching" }, value: 1 })]);
  const told = () => restoreIn(world)?.status?.conditions?.find(({ type }) => type === "InTime");
  expect(told()).toMatchObject({ status: "False", reason: "LaunchingTakesLong" });
  expect(world.cluster.keys().filter((key) => key.startsWith("Event/")).length).toBeGreaterThan(3);
  world.guestReady = true;
  await until(world, metrics, "Completed");
  expect(told()?.status).toBe("True");
});
