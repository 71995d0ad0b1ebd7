import { expect, test } from "@jest/globals";
import type { DiskStatus } from "../api/agent-control.ts";
import { rateLimit } from "./rate-limit.ts";

const disk = (name: string, sealed: boolean) => ({ name, sealed }) as DiskStatus;

test.each([
  ["none was told", undefined, [false, false], Number.POSITIVE_INFINITY],
  ["told", 1000, [false, false], 1000],
  ["one disk is sealed", 1000, [true, false], 1000],
  ["the guest stands still", 1000, [true, true], Number.POSITIVE_INFINITY],
])("the limit where %s", (_, relocationLimit, [root, data], expected) => {
  const disks = [disk("root", root === true), disk("data", data === true)];
  expect(rateLimit({ ...(relocationLimit === undefined ? {} : { relocationLimit }), disks }, ["root", "data"])).toBe(
    expected,
  );
});

test("an agent that does not know its disks yet tells the limit all the same", () => {
  expect(rateLimit({ relocationLimit: 5, disks: [] }, ["root"])).toBe(5);
});
