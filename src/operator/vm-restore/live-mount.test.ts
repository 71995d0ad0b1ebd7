import { expect, test } from "@jest/globals";
import { VIRTUAL_MACHINES } from "../kinds.ts";
import { changeSpec, reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

const hasMachine = (world: World) => world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db") !== undefined;
const mount = (liveMount: object) => ({ relocation: { strategy: "None" }, liveMount });

// The machine runs for a minute and a half, longer than any of the times below, before people edit its restore.
test.each<[string, object, (restore: Parameters<ReturnType<typeof reasonIs>>[0]) => boolean, object]>([
  [
    "that was to be relocated becomes a live mount",
    { ...relocation({ begin: "Manual" }), liveMount: { expiresAfter: "60s", onExpiry: "Discard" } },
    reasonIs("Relocated", "AwaitingBegin"),
    { relocation: { strategy: "None" } },
  ],
  [
    "that waits for its cutover becomes a live mount",
    { ...relocation({ cutover: {} }), liveMount: { expiresAfter: "60s", onExpiry: "Discard" } },
    reasonIs("CutOver", "AwaitingApproval"),
    { relocation: { strategy: "None" } },
  ],
  [
    "that was kept when it expired is to be discarded",
    mount({ expiresAfter: "60s" }),
    phaseIs("Running"),
    mount({ expiresAfter: "60s", onExpiry: "Discard" }),
  ],
  [
    "that never was to expire is to, after a shorter time than it has been running",
    mount({ onExpiry: "Discard" }),
    phaseIs("Running"),
    mount({ expiresAfter: "60s", onExpiry: "Discard" }),
  ],
])("a machine %s: it is not discarded at once, but told when", async (_, spec, when, edit) => {
  const world = new World();
  world.restore(spec);
  await play(world, when);
  await settle(world, 90);
  changeSpec(world, edit);
  const edited = world.clock.now();
  await settle(world, 50);
  expect(hasMachine(world)).toBe(true);
  const { message, expiresAt } = restoreIn(world)?.status ?? {};
  expect(message).toContain(`It expires at ${expiresAt} and is discarded then.`);
  expect(Date.parse(expiresAt ?? "") - edited).toBeGreaterThanOrEqual(60_000);
  const end = await play(world, phaseIs("Completed"));
  expect(world.clock.now()).toBeGreaterThanOrEqual(Date.parse(expiresAt ?? ""));
  expect(end?.status?.conditions?.find(({ type }) => type === "Discarded")?.reason).toBe("Expired");
  expect(hasMachine(world)).toBe(false);
});

test("an edit that leaves some time changes the end, and not when the time began", async () => {
  const world = new World();
  world.restore(mount({ expiresAfter: "10m", onExpiry: "Discard" }));
  const before = Date.parse((await play(world, reasonIs("Expired", "NotYet")))?.status?.expiresAt ?? "");
  await settle(world, 60);
  changeSpec(world, mount({ expiresAfter: "5m", onExpiry: "Discard" }));
  const after = Date.parse((await settle(world, 10))?.status?.expiresAt ?? "");
  expect(before - after).toBe(300_000);
});
