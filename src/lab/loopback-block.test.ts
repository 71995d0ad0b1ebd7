import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { takeLoopbackBlock } from "./loopback-block.ts";

test("two labs never share addresses, and a directory keeps its own", async () => {
  const directories = await Promise.all([1, 2].map(() => mkdtemp(join(tmpdir(), "block-"))));
  const [one = "", two = ""] = directories;
  const first = await takeLoopbackBlock(one);
  const second = await takeLoopbackBlock(two);
  expect(second.serviceRange).not.toBe(first.serviceRange);
  expect(second.podPrefix).not.toBe(first.podPrefix);
  await expect(takeLoopbackBlock(one)).rejects.toMatchObject({ code: "LAB_ADDRESSES_TAKEN" });
  await first.release();
  const again = await takeLoopbackBlock(one);
  expect(again.serviceRange).toBe(first.serviceRange);
  await Promise.all([again.release(), second.release()]);
  await Promise.all(directories.map((directory) => rm(directory, { recursive: true })));
});
