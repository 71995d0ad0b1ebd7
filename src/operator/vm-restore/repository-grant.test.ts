import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { BACKUP_REPOSITORIES } from "../kinds.ts";
import { play, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

const elsewhere = { source: { repository: { name: "secret-plans", namespace: "backups" }, snapshot: { latest: {} } } };

/** What a VMRestore is told of a repository in another namespace. */
async function toldOf(put: (world: World) => void): Promise<string | undefined> {
  const world = new World();
  put(world);
  world.restore(elsewhere);
  await play(world, (restore) => conditionOf(restore?.status?.conditions, "SourceReady") !== undefined);
  return conditionOf(restoreIn(world)?.status?.conditions, "SourceReady")?.message;
}

test("who may not read a repository does not learn whether it is there, nor what is wrong with it", async () => {
  const absent = await toldOf(() => undefined);
  const present = await toldOf(({ cluster }) => {
    const here = cluster.peek(BACKUP_REPOSITORIES, TENANT, "nightly");
    const [ready] = here?.status?.conditions ?? [];
    cluster.put(BACKUP_REPOSITORIES, {
      ...here,
      metadata: { name: "secret-plans", namespace: "backups" },
      status: { conditions: [{ ...ready, status: "False", message: "bucket plans-2027 is gone" }] },
    });
  });
  expect(present).toBe(absent);
  expect(absent).not.toContain("plans-2027");
});

test("a repository of the same name in the VMRestore's own namespace is not taken instead", async () => {
  const told = await toldOf(({ cluster }) => {
    const here = cluster.peek(BACKUP_REPOSITORIES, TENANT, "nightly");
    cluster.put(BACKUP_REPOSITORIES, { ...here, metadata: { name: "secret-plans", namespace: TENANT } });
  });
  expect(told).toContain("in namespace backups");
});
