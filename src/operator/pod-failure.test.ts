import { expect, test } from "@jest/globals";
import type { Pod } from "./kinds.ts";
import { failureOf } from "./pod-failure.ts";

function pod(message: string, exitCode = 1, field = "state"): Pod {
  const terminated = { exitCode, message };
  const containerStatuses = [{ name: "relocate", [field]: { terminated } }];
  return { apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, status: { containerStatuses } };
}

const LOG =
  '{"level":30,"msg":"copying"}\nvmrestore: /target/0 is too small (RELOCATION_TARGET_UNFIT)\n  give a larger claim\n';
const SAID = "/target/0 is too small (RELOCATION_TARGET_UNFIT) give a larger claim";

test("what a command said at its end is found behind its log", () => {
  expect(failureOf([pod(LOG)])).toBe(SAID);
  expect(failureOf([pod(LOG, 1, "lastState")])).toBe(SAID);
  expect(failureOf([pod(`vmrestore: an earlier run\n${LOG}`)])).toBe(SAID);
  expect(failureOf([pod("vmrestore: first"), pod("vmrestore: second")])).toBe("second");
  expect(failureOf([pod(`vmrestore: ${"x".repeat(5000)}`)])?.length).toBe(700);
});

test("nothing is made up", () => {
  expect(failureOf([])).toBeUndefined();
  expect(failureOf([pod("Killed")])).toBeUndefined();
  expect(failureOf([pod(LOG, 0)])).toBeUndefined();
});
