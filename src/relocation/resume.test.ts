import { expect, test } from "@jest/globals";
import type { RelocationProgress } from "../api/agent-control.ts";
import { isDone, planRelocation } from "./resume.ts";

const MARKER = { target: "a", size: 8192 };
const PROGRESS: RelocationProgress = {
  target: "a",
  cursor: 4096,
  bytesTotal: 1,
  bytesDurable: 1,
  rate: 0,
  state: "FirstPass",
};
const DISK = { size: 8192, sealed: false, relocation: PROGRESS };

test("resumes only where target and agent name each other", () => {
  expect(planRelocation(DISK, MARKER)).toEqual({ kind: "resume", cursor: 4096, target: "a" });
  expect(planRelocation(DISK, undefined)).toEqual({ kind: "fresh" });
  expect(planRelocation(DISK, { ...MARKER, target: "b" })).toEqual({ kind: "fresh" });
  expect(planRelocation(DISK, { ...MARKER, size: 4096 })).toEqual({ kind: "fresh" });
  expect(planRelocation({ size: 8192, sealed: false }, MARKER)).toEqual({ kind: "fresh" });
  expect(planRelocation({ ...DISK, relocation: { ...PROGRESS, cursor: 8193 } }, MARKER)).toEqual({ kind: "fresh" });
  const { target: _, ...unnamed } = PROGRESS;
  expect(planRelocation({ ...DISK, relocation: unnamed }, MARKER)).toEqual({ kind: "fresh" });
});

test("only looks where it was done and nothing was written since", () => {
  const done = { ...DISK, relocation: { ...PROGRESS, state: "Done" } as const };
  expect(isDone(done)).toBe(false);
  expect(planRelocation({ ...done, sealed: true }, undefined)).toEqual({ kind: "compare" });
  expect(planRelocation(done, undefined)).toEqual({ kind: "fresh" });
  expect(planRelocation({ ...DISK, sealed: true }, MARKER).kind).toBe("resume");
});
