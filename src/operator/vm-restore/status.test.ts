import { expect, test } from "@jest/globals";
import { CLAIMS, VIRTUAL_MACHINES } from "../kinds.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { changeSpec, reasonIs, relocation, settle } from "./testing/course.ts";
import { phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

// What the status and the events say to people: what is waited for, since when, and what became of a restore that failed.

test("it is told since when the same is waited for, however far that has come meanwhile", async () => {
  const world = new World();
  world.staged = 10;
  world.launchable = false;
  world.restore({ launch: { bootSetTimeout: "1h" } });
  const first = await play(world, reasonIs("BootSetStaged", "Staging"));
  const since = first?.status?.waiting?.since;
  expect(first?.status?.waiting).toMatchObject({ condition: "BootSetStaged", reason: "Staging" });
  await settle(world);
  world.staged = 60;
  const later = await settle(world);
  expect(later?.status?.message).toMatch(/^60 B of 100 B/);
  expect(later?.status?.waiting?.since).toBe(since);
  world.launchable = true;
  const completed = await play(world, phaseIs("Completed"));
  expect(completed?.status?.waiting).toBeUndefined();
});

test("another thing that is waited for is waited for since then", async () => {
  const world = new World();
  world.restore(relocation({ begin: "Manual", cutover: {} }));
  const begin = await play(world, reasonIs("Relocated", "AwaitingBegin"));
  await settle(world);
  changeSpec(world, relocation({ cutover: {} }));
  const cutover = await play(world, reasonIs("CutOver", "AwaitingApproval"));
  const waited = (restore: typeof begin) => Date.parse(restore?.status?.waiting?.since ?? "");
  expect(waited(cutover)).toBeGreaterThan(waited(begin) + 10_000);
});

test("a step that comes back tells when it did, and never lasts through another", async () => {
  const world = new World();
  world.restore(relocation({ cutover: {} }));
  await play(world, reasonIs("CutOver", "AwaitingApproval"));
  changeSpec(world, relocation({ strategy: "None" }));
  const called = await play(world, phaseIs("Running"));
  const first = called?.status?.timeline?.find(({ step }) => step === "Relocating");
  expect(first?.finishedAt).toBeDefined();
  await settle(world);
  changeSpec(world, relocation());
  const completed = await play(world, phaseIs("Completed"));
  const again = completed?.status?.timeline?.find(({ step }) => step === "Relocating");
  expect(again?.startedAt).toBe(first?.startedAt);
  expect(Date.parse(again?.resumedAt ?? "")).toBeGreaterThan(Date.parse(first?.finishedAt ?? "") + 10_000);
  const spans = (completed?.status?.timeline ?? []).map(({ startedAt, resumedAt, finishedAt = "" }) => [
    resumedAt ?? startedAt,
    finishedAt,
  ]);
  for (const [index, [from = ""]] of spans.sort().entries()) expect(from >= (spans[index - 1]?.[1] ?? "")).toBe(true);
});

test("a failure says whether the machine runs, and what was kept", async () => {
  const stands = new World();
  stands.verifyFails = true;
  stands.restore();
  const failed = await play(stands, phaseIs("Failed"));
  expect(failed?.status?.message).toMatch(
    /delete claim orders-db-root.* VirtualMachine orders-db does not run\. Kept: what it wrote before cutover, in claim vmr-\S+-overlay of namespace vmrestore-system; what was copied, in claim orders-db-root\.$/,
  );

  const gone = new World();
  gone.restore(relocation({ cutover: {} }));
  await play(gone, reasonIs("CutOver", "AwaitingApproval"));
  gone.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
  expect((await play(gone, phaseIs("Failed")))?.status?.message).toMatch(
    /There is no VirtualMachine orders-db of this restore\. Kept: what/,
  );

  const lost = new World();
  lost.restore(relocation({ cutover: {} }));
  await play(lost, reasonIs("CutOver", "AwaitingApproval"));
  lost.cluster.erase(CLAIMS, OWN, `vmr-${restoreIn(lost)?.metadata.uid}-overlay`);
  expect((await play(lost, phaseIs("Failed")))?.status?.message).toMatch(
    /VirtualMachine orders-db runs from the media agent\. Kept: what was copied, in claim orders-db-root\.$/,
  );
});

test("every step of the way is an event", async () => {
  const world = new World();
  world.restore();
  await play(world, phaseIs("Completed"));
  const reasons = world.cluster.all(EVENTS).map(({ reason }) => reason);
  expect(reasons).toEqual(
    expect.arrayContaining([
      "Inspecting",
      "SnapshotFound",
      "Checked",
      "Starting",
      "Serving",
      "Staged",
      "Created",
      "Booting",
      "GuestAgentConnected",
      "Preparing",
      "Copying",
      "Converged",
      "Halting",
      "Sealing",
      "FinalPass",
      "Switching",
      "Switched",
      "Relocated",
      "Completed",
    ]),
  );
});

test("of an agent whose process is just starting it is said that it does not answer yet, not only how the connection ended", async () => {
  const world = new World();
  const { connect } = world.agent;
  world.agent.connect = () => ({
    ...connect(),
    status: async () => {
      throw new Error("GET /v1/status: socket disconnected");
    },
  });
  world.restore();
  const waiting = await settle(world);
  expect(waiting?.status?.message).toBe(
    "The media agent does not serve yet: its pod runs and does not answer yet (GET /v1/status: socket disconnected).",
  );
  world.agent.connect = connect;
  expect((await play(world, phaseIs("Completed")))?.status?.phase).toBe("Completed");
});
