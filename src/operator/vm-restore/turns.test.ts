import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { BACKUP_REPOSITORIES, SECRETS, VM_RESTORES } from "../kinds.ts";
import { Crash, operatorIn, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

const NAMES = ["first", "second", "third", "fourth"];

/** Live mounts of the same repository, applied one after the other. */
async function crowd(limit: number): Promise<World> {
  const world = new World();
  world.cluster.change(BACKUP_REPOSITORIES, TENANT, "nightly", (repository) => {
    repository.spec = { ...(repository.spec as object), maxConcurrentRestores: limit };
  });
  for (const name of NAMES) {
    world.restore({ virtualMachine: { name }, relocation: { strategy: "None" } }, name);
    await world.clock.advance(1000);
  }
  return world;
}

/** Lets everybody go on for so many seconds, the youngest first; all of a round are worked on at once. */
async function goOn(world: World, rounds: number, look: () => void = () => undefined, newest = operatorIn(world)) {
  let operator = newest;
  for (let round = 0; round < rounds; round++) {
    const results = await Promise.allSettled([...NAMES].reverse().map((name) => operator.reconcile(TENANT, name)));
    if (results.some((result) => result.status === "rejected" && result.reason instanceof Crash))
      operator = operatorIn(world);
    world.step();
    await world.clock.advance(1000);
    look();
  }
}

const place = (world: World, name: string) => restoreIn(world, name)?.status?.queue?.position;
/** Those that have made something and whose guest is not ready yet. */
const underWay = (world: World) =>
  NAMES.filter((name) => {
    const uid = restoreIn(world, name)?.metadata.uid;
    const begun = world.cluster.peek(SECRETS, OWN, `vmr-${uid}-plan`) !== undefined;
    return begun && conditionOf(restoreIn(world, name)?.status?.conditions, "GuestReady")?.status !== "True";
  });

test("restores wait for their turn, first come, first served, and their place is told", async () => {
  const world = await crowd(1);
  world.guestReady = false;
  await goOn(world, 12);
  expect(underWay(world)).toEqual(["first"]);
  expect(NAMES.map((name) => place(world, name))).toEqual([undefined, 1, 2, 3]);
  const waiting = restoreIn(world, "third");
  expect(waiting?.status?.phase).toBe("Pending");
  expect(waiting?.status?.message).toBe(
    "The restore waits for its turn: it is number 2 of 3 that wait for BackupRepository nightly, from which 1 restore may be under way at once.",
  );
  // Somebody gives up: the others move up.
  world.cluster.erase(VM_RESTORES, TENANT, "second");
  await goOn(world, 8);
  expect(place(world, "third")).toBe(1);
  world.guestReady = true;
  const order: string[] = [];
  await goOn(world, 60, () => {
    for (const name of underWay(world)) if (!order.includes(name)) order.push(name);
    expect(underWay(world).length).toBeLessThanOrEqual(1);
  });
  expect(order).toEqual(["first", "third", "fourth"]);
  expect(restoreIn(world, "fourth")?.status).toMatchObject({ phase: "Running" });
  expect(restoreIn(world, "fourth")?.status?.queue).toBeUndefined();
});

test("no more than allowed are under way at once, however the operator dies", async () => {
  for (let n = 5; n < 60; n += 9) {
    const world = await crowd(2);
    let writes = 0;
    world.cluster.onWrite = () => {
      if (++writes === n) throw new Crash();
    };
    let most = 0;
    await goOn(world, 60, () => {
      most = Math.max(most, underWay(world).length);
    });
    expect(most).toBe(2);
    expect(NAMES.map((name) => restoreIn(world, name)?.status?.phase)).toEqual(NAMES.map(() => "Running"));
  }
});

test("a limit that is taken away lets all of them go", async () => {
  const world = await crowd(1);
  world.guestReady = false;
  await goOn(world, 12);
  world.cluster.change(BACKUP_REPOSITORIES, TENANT, "nightly", (repository) => {
    repository.spec = { local: { claimName: "backups" }, credentialsSecretRef: { name: "password" } };
  });
  await goOn(world, 12);
  expect(underWay(world)).toEqual(NAMES);
});

test("one that turns out to be unable to begin stands in nobody's way, and takes its place again when it can", async () => {
  const world = await crowd(1);
  world.guestReady = false;
  await goOn(world, 12);
  expect(place(world, "third")).toBe(2);
  const source = { repository: { name: "nightly" }, snapshot: { latest: {} } };
  const aim = (change: object): void =>
    world.cluster.change(VM_RESTORES, TENANT, "second", (restore) => {
      restore.spec = { ...(restore.spec as object), source: { ...source, ...change } };
      restore.metadata.generation = (restore.metadata.generation ?? 1) + 1;
    });
  // A spec that nobody can follow, for a while.
  aim({ disks: [{ name: "data" }] });
  await goOn(world, 8);
  expect(conditionOf(restoreIn(world, "second")?.status?.conditions, "SpecValid")?.status).toBe("False");
  expect(place(world, "third")).toBe(1);
  aim({ disks: [{ name: "data", path: "/disks/data.img", repository: { name: "gone" }, snapshot: { latest: {} } }] });
  await goOn(world, 8);
  const left = restoreIn(world, "second");
  expect(conditionOf(left?.status?.conditions, "SourceReady")?.reason).toBe("RepositoryNotFound");
  expect(left?.status?.message).toMatch(/There is no BackupRepository gone/);
  expect(left?.status?.queue).toBeUndefined();
  expect(place(world, "third")).toBe(1);
  aim({});
  await goOn(world, 20);
  expect([place(world, "second"), place(world, "third")]).toEqual([1, 2]);
});
