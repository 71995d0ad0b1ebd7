import { expect, test } from "@jest/globals";
import type { AgentStatus } from "../../api/agent-control.ts";
import { degraded } from "./degraded.ts";
import type { Observed } from "./observed.ts";

type Repository = AgentStatus["repository"];
const well = { reachable: true, message: "", pinned: true, pinMessage: "", longestWait: 0 };
const GIB = 2 ** 30;
const hydration = { needed: 10 * GIB, safe: 4 * GIB, lost: 0, done: false, cacheFull: false };

function observe(repository: Partial<Repository>): Observed {
  const status = { serving: true, overlay: { full: false }, disks: [], repository: { ...well, ...repository } };
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

test("a second machine that writes is told with the names that the two give themselves, and nothing else that they say", () => {
  const observed = observe({});
  const disk = (told: object): object => ({ name: "root", refusedWrites: 7, ...told });
  const tell = (...disks: object[]) => {
    Object.assign(observed.agent.status as object, { disks });
    return degraded(observed);
  };
  expect(tell(disk({ writer: "node-b" })).reason).toBe("AsExpected");
  const { reason, message } = tell({ name: "data" }, disk({ writer: "node-b", refusedWriter: "node-a" }));
  expect(reason).toBe("WritesRefused");
  for (const text of ["disk root", "on node node-a writes", "on node node-b has", "(7 until now)"])
    expect(message).toContain(text);
  const odd = tell(disk({ refusedWriter: "a\nb <c>" }));
  expect(odd.message).toContain("on node a?b??c? writes");
  expect(odd.message).toContain("on a node that is not known by name has");
});

test.each([
  [{}, ["wait", "Enlarge its claim", "or let the cutover happen"], ["cannot be moved"]],
  [{ stuck: true }, ["wait", "Enlarge its claim", "cannot be moved"], ["cutover"]],
])("an overlay that is full, %j: the cutover is offered only where it can come", (change, said, unsaid) => {
  const observed = observe({});
  const overlay = { full: true, bytesUsed: 1, bytesFree: 0, ...change };
  const { reason, message } = degraded({
    ...observed,
    agent: { ...observed.agent, status: { ...observed.agent.status, overlay } as AgentStatus },
  });
  expect(reason).toBe("OverlayFull");
  for (const text of said) expect(message).toContain(text);
  for (const text of unsaid) expect(message).not.toContain(text);
});

test.each([
  [{}, ["Of the 10.0 GiB", "4.0 GiB are in", "being fetched", "do not prune"], ["too small", "gone:", "All that"]],
  [{ done: true, cacheFull: true }, ["4.0 GiB are in", "too small", "do not prune"], ["being fetched", "gone:"]],
  [{ done: true, safe: 10 * GIB }, ["All that the disks need (10.0 GiB)"], ["do not prune", "too small", "gone:"]],
  [{ done: true, safe: 7 * GIB, lost: GIB }, ["7.0 GiB are in", "cannot keep the rest", "do not prune"], ["too small"]],
  [{ done: true, safe: 7 * GIB, lost: 3 * GIB }, ["7.0 GiB are in", "3.0 GiB are gone"], ["do not prune", "too small"]],
])("a backup that may vanish, hydrated like %j: how much is safe, and what to do", (change, said, unsaid) => {
  const repository = { pinned: false, message: "pack abc is missing", hydration: { ...hydration, ...change } };
  const { reason, message } = degraded(observe(repository));
  expect(reason).toBe("BackupVanishing");
  for (const text of [...said, "Relocate now"]) expect(message).toContain(text);
  for (const text of unsaid) expect(message).not.toContain(text);
});
