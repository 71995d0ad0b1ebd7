import { expect, test } from "@jest/globals";
import { VIRTUAL_MACHINES } from "./kinds.ts";
import { type EventDriven, playByEvents, runByEvents } from "./testing/event-driven.ts";
import { reasonIs } from "./vm-restore/testing/course.ts";
import { COPY, COURSES, type Course } from "./vm-restore/testing/courses.ts";
import { phaseIs, restoreIn } from "./vm-restore/testing/run.ts";
import { TENANT, World } from "./vm-restore/testing/world.ts";

// What the operator asks of the API server, woken by its watches only.

const requests = ({ world: { cluster } }: EventDriven) => cluster.reads.length + cluster.writes.length;

async function runTo(spec: object, there: (restore: ReturnType<typeof restoreIn>) => boolean): Promise<EventDriven> {
  const world = new World();
  world.restore(spec);
  const driven = await runByEvents(world);
  for (let second = 0; second < 60; second++) {
    if (there(restoreIn(world))) return driven;
    await driven.seconds(1);
  }
  throw new Error(`it did not come to that: ${restoreIn(world)?.status?.message}`);
}

test.each(COURSES.map((course): [string, Course] => [course.name, course]))(
  "a whole course is led by its events, with a bounded number of requests: %s",
  async (_, course) => {
    const driven = await playByEvents(course);
    // Some relocate twice.
    expect(requests(driven)).toBeLessThan(/begun anew|paused on the way/.test(course.name) ? 1200 : 950);
    // Each watch listed once.
    expect(new Set(driven.transport.lists).size).toBe(driven.transport.lists.length);
    const asked = driven.world.cluster.writes.map(({ verb, type }) => `${verb} ${type.plural}`);
    expect(asked.filter((ask) => ask === "patch vmrestores").length).toBeLessThan(50);
    expect(asked.filter((ask) => ask === "patch events").length).toBeLessThan(50);
  },
);

test("a live mount in which nothing happens costs no request, and its agent is asked now and then", async () => {
  const driven = await runTo({ relocation: { strategy: "None" } }, reasonIs("Expired", "Never"));
  await driven.seconds(10);
  const before = requests(driven);
  const asked = driven.world.asked;
  await driven.seconds(300);
  expect(requests(driven) - before).toBe(0);
  expect(driven.world.asked - asked).toBeLessThanOrEqual(61);
  await driven.end();
});

test("a busy live mount, and a long copy, cost a few requests a minute: their numbers, ever less often", async () => {
  const live = await runTo({ relocation: { strategy: "None" } }, reasonIs("Expired", "Never"));
  const copy = await runTo({ relocation: { ...COPY, cutover: {} } }, (restore) => {
    if (!phaseIs("Relocating")(restore)) return false;
    return restore?.status?.relocation !== undefined;
  });
  copy.world.copyingGoesOn = false;
  for (const driven of [live, copy]) {
    await driven.seconds(20);
    const before = requests(driven);
    for (let second = 0; second < 600; second++) {
      driven.world.bytesFetched += 1_000_000;
      await driven.seconds(1);
    }
    expect(requests(driven) - before).toBeLessThan(90);
    // And yet what people read is at most a minute old.
    expect(driven.world.bytesFetched - Number(restoreIn(driven.world)?.status?.mediaAgent?.bytesFetched)).toBeLessThan(
      66_000_000,
    );
    await driven.end();
  }
});

test("news is written at once, however recent the last numbers are", async () => {
  const driven = await runTo({ relocation: { ...COPY, cutover: {} } }, phaseIs("Relocating"));
  driven.world.overlayFull = true;
  await driven.seconds(3);
  expect(restoreIn(driven.world)?.status?.conditions).toContainEqual(
    expect.objectContaining({ type: "Degraded", status: "True" }),
  );
  await driven.end();
});

test("a machine of somebody else that stands in the way, and goes away, wakes nobody, and is found out all the same", async () => {
  const world = new World();
  world.restore();
  world.launchable = false;
  const driven = await runByEvents(world);
  await driven.seconds(10);
  const metadata = { name: "orders-db", namespace: TENANT };
  world.cluster.put(VIRTUAL_MACHINES, { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", metadata, spec: {} });
  world.launchable = true;
  await driven.seconds(10);
  expect(reasonIs("VirtualMachineCreated", "VirtualMachineExists")(restoreIn(world))).toBe(true);
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
  await driven.seconds(40);
  expect(restoreIn(world)?.status?.phase).toBe("Completed");
  await driven.end();
});

test("an agent that does not answer is asked once in a reconcile: each question may take seconds, and holds a worker", async () => {
  const driven = await runTo({ relocation: { strategy: "None" } }, reasonIs("Expired", "Never"));
  driven.world.agentAnswers = false;
  const before = driven.asks.length;
  await driven.seconds(8);
  expect(reasonIs("Degraded", "AgentUnreachable")(restoreIn(driven.world))).toBe(true);
  expect(driven.asks.length).toBeGreaterThan(before + 2);
  expect(Math.max(...driven.asks.slice(before))).toBe(1);
  await driven.end();
});
