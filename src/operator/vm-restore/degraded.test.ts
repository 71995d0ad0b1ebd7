import { expect, test } from "@jest/globals";
import { degraded } from "./degraded.ts";
import type { Observed } from "./observed.ts";

const well = { reachable: true, message: "", pinned: true, pinMessage: "", longestWait: 0 };

function observe(repository: Partial<typeof well>): Observed {
  const status = { serving: true, overlay: { full: false }, repository: { ...well, ...repository } };
  const spec = { mediaAgent: { repositoryPatience: "30s" } };
  return { restore: { status: {} }, spec, agent: { status } } as unknown as Observed;
}

test.each([
  [{}, "False", "AsExpected", ""],
  [{ reachable: false, message: "it is away" }, "True", "RepositoryUnreachable", "it is away"],
  [{ message: "pack abc is missing" }, "True", "BackupDamaged", "pack abc is missing"],
  [{ longestWait: 31_000 }, "True", "RepositorySlow", "31s"],
  [{ longestWait: 29_000 }, "False", "AsExpected", ""],
  [{ pinned: false, pinMessage: "read-only" }, "True", "NotPinned", "read-only"],
] as const)("a repository like %j", (repository, status, reason, message) => {
  const told = degraded(observe(repository));
  expect(told).toMatchObject({ type: "Degraded", status, reason, message: expect.stringContaining(message) });
});
