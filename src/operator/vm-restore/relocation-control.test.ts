import { expect, test } from "@jest/globals";
import type { VMRestore } from "../../api/vm-restore.ts";
import { conditionOf } from "../conditions.ts";
import { CLAIMS, INSTANCES, JOBS, VIRTUAL_MACHINES } from "../kinds.ts";
import { changeSpec, claimOf, reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

// What people do to a relocation under way: begin it, pause it, slow it down, call it off.

const copyJobs = (world: World) => world.cluster.all(JOBS).filter(({ metadata }) => metadata.name.endsWith("-copy"));

test("a relocation that is paused keeps its claims, runs no Job, and goes on where it stopped", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  const claim = world.cluster.peek(CLAIMS, TENANT, "orders-db-root");
  changeSpec(world, relocation({ paused: true }));
  const paused = await play(
    world,
    (restore) => copyJobs(world).length === 0 && restore?.status?.message?.startsWith("Relocation is paused") === true,
  );
  expect(paused?.status?.phase).toBe("Relocating");
  expect(paused?.status?.message).toMatch(
    /64\.0 MiB of 64\.0 MiB are durable .* set spec\.relocation\.paused to false/,
  );
  expect(conditionOf(paused?.status?.conditions, "CutOver")).toMatchObject({ status: "False", reason: "Paused" });
  await settle(world);
  expect(copyJobs(world)).toEqual([]);
  expect(claimOf(world)).toBe("orders-db-root-restoring");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  changeSpec(world, relocation());
  await play(world, phaseIs("Completed"));
  expect(world.told).not.toContain("reset");
  expect(world.cluster.peek(CLAIMS, TENANT, "orders-db-root")?.metadata.uid).toBe(claim?.metadata.uid);
});

test("while nothing is copied no rate is told, and no end", async () => {
  const world = new World();
  world.restore(relocation());
  await play(world, (restore) => {
    world.copyingGoesOn = world.progress?.state !== "Converging";
    return restore?.status?.relocation?.bytesPerSecond !== undefined;
  });
  changeSpec(world, relocation({ paused: true }));
  await play(world, reasonIs("Relocated", "Paused"));
  const paused = await settle(world);
  expect(world.progress).toMatchObject({ state: "Converging", rate: 1e6 });
  expect(paused?.status?.relocation).toEqual({ percent: 99 });
});

test("a machine that was halted for cutover is not paused any more", async () => {
  const world = new World();
  world.restore(relocation());
  await play(world, reasonIs("CutOver", "FinalPass"));
  changeSpec(world, relocation({ paused: true }));
  await play(world, phaseIs("Completed"));
  expect(claimOf(world)).toBe("orders-db-root");
});

test("a relocation that is paused before it begins makes nothing", async () => {
  const world = new World();
  world.restore(relocation({ paused: true }));
  const waiting = await play(world, reasonIs("Relocated", "AwaitingBegin"));
  expect(waiting?.status?.phase).toBe("Running");
  expect(waiting?.status?.message).toMatch(/set spec\.relocation\.paused to false/);
  await settle(world);
  expect(world.cluster.peek(CLAIMS, TENANT, "orders-db-root")).toBeUndefined();
  changeSpec(world, relocation());
  await play(world, phaseIs("Completed"));
});

test("relocation begins at its time", async () => {
  const world = new World();
  const beginAt = new Date(world.clock.now() + 3600_000).toISOString();
  world.restore(relocation({ begin: "At", beginAt }));
  const waiting = await play(world, reasonIs("Relocated", "AwaitingBegin"));
  expect(waiting?.status?.message).toBe(`Relocation begins at ${beginAt}.`);
  await settle(world);
  expect(world.cluster.all(JOBS)).toEqual([]);
  await world.clock.advance(3600_000);
  await play(world, phaseIs("Completed"));
});

test("relocation that may begin at once does not wait for the guest", async () => {
  const world = new World();
  world.guestReady = false;
  world.restore(relocation({ begin: "Immediately", cutover: {} }));
  const copied = await play(world, reasonIs("Relocated", "Converged"));
  expect(conditionOf(copied?.status?.conditions, "GuestReady")?.status).toBe("False");
});

test("a limit that is changed is told to the agent, and the Job stays", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {}, bandwidthLimit: "200Mi" }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  const [job] = copyJobs(world);
  const told = () => world.told.filter((what) => /limit/.test(what));
  expect(told()).toEqual([`limit ${200 * 2 ** 20}`]);
  changeSpec(world, relocation({ cutover: {}, bandwidthLimit: "1Mi" }));
  await settle(world);
  changeSpec(world, relocation({ cutover: {} }));
  await settle(world);
  expect(told().slice(1)).toEqual([`limit ${2 ** 20}`, "limit undefined"]);
  expect(copyJobs(world)).toHaveLength(1);
  expect(copyJobs(world)[0]?.metadata.uid).toBe(job?.metadata.uid);
});

test.each<[string, object, (restore: VMRestore | undefined) => boolean]>([
  ["it waits for the backup to be looked at", {}, phaseIs("Pending")],
  ["the media agent is being made", {}, phaseIs("Preparing")],
  ["the boot set is staged", {}, phaseIs("Staging")],
  ["the machine is being started", {}, phaseIs("Launching")],
  ["it waits for leave to begin", { begin: "Manual" }, reasonIs("Relocated", "AwaitingBegin")],
  ["the target claims are being made", {}, reasonIs("Relocated", "Preparing")],
  ["the Job copies", {}, reasonIs("Relocated", "Copying")],
  ["it is paused", { paused: true, begin: "GuestReady" }, reasonIs("Relocated", "AwaitingBegin")],
  ["all is copied", { cutover: {} }, reasonIs("CutOver", "AwaitingApproval")],
  [
    "it waits for its time",
    { cutover: { when: "At", at: "2027-01-01T00:00:00Z" } },
    reasonIs("CutOver", "AwaitingTime"),
  ],
])(
  "relocation can be called off while %s: the machine runs from the agent, and nothing else is left",
  async (_, how, when) => {
    const world = new World();
    world.restore(relocation(how));
    await play(world, when);
    changeSpec(world, relocation({ strategy: "None" }));
    await play(world, reasonIs("Expired", "Never"));
    const restore = await settle(world);
    expect(restore?.status).toMatchObject({ phase: "Running", strategy: "None" });
    expect(restore?.status?.targetClaims).toBeUndefined();
    expect(restore?.status?.relocation).toBeUndefined();
    expect(world.cluster.all(JOBS)).toEqual([]);
    expect(world.cluster.peek(CLAIMS, TENANT, "orders-db-root")).toBeUndefined();
    expect(claimOf(world)).toBe("orders-db-root-restoring");
    expect(world.cluster.all(INSTANCES)).toHaveLength(1);
    const cutover = conditionOf(restore?.status?.conditions, "CutOver");
    expect([undefined, "Cancelled"]).toContain(cutover?.reason);
    // What was copied before is not believed: another relocation begins with nothing.
    const hadProgress = world.progress !== undefined && world.progress.cursor > 0;
    world.told.length = 0;
    changeSpec(world, relocation());
    await play(world, phaseIs("Completed"));
    expect(world.told.includes("reset")).toBe(hadProgress);
    expect(world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db")?.spec?.runStrategy).toBe("Always");
  },
);
