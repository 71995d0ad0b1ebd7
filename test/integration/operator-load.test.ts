import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { measureOperator } from "../scenario/operator-load.ts";

test("an operator with many restores takes little memory, and asks for nothing but its Lease while nothing happens", async () => {
  const directory = await mkdtemp(join(tmpdir(), "vmrestore-load-"));
  try {
    const load = await measureOperator({ directory, completed: 80, live: 10, idleSeconds: 8 });
    expect(load.peakBytes).toBeLessThan(256 * 2 ** 20);
    expect([...load.idle.keys()].sort()).toEqual(["get leases", "update leases"]);
    expect(load.idle.get("update leases")).toBeLessThan(12);
    // Each watch lists once and is opened once.
    expect([load.atStart.get("list vmrestores"), load.atStart.get("watch vmrestores")]).toEqual([1, 1]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}, 120_000);
