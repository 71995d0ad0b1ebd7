import { expect, test } from "@jest/globals";
import { decideJob } from "./job.ts";
import type { Job, Pod } from "./kinds.ts";

const NOW = Date.UTC(2026, 0, 1);

function job(spec: Partial<Job["spec"]> = {}): Job {
  return { apiVersion: "batch/v1", kind: "Job", metadata: { name: "copy" }, spec: { template: { spec: {} }, ...spec } };
}

function pod(phase: string, endedAgoMs = 0): Pod {
  const finishedAt = new Date(NOW - endedAgoMs).toISOString();
  const terminated = { exitCode: phase === "Failed" ? 1 : 0, finishedAt };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "copy-0" },
    status: { phase, containerStatuses: [{ name: "c", state: { terminated } }] },
  };
}

test("a Job makes one pod, waits for it, and is complete when it succeeds", () => {
  expect(decideJob(job(), [], NOW)).toMatchObject({ createPod: true, active: 0 });
  expect(decideJob(job(), [pod("Running")], NOW)).toMatchObject({ createPod: false, active: 1, conditions: undefined });
  expect(decideJob(job(), [pod("Failed"), pod("Succeeded")], NOW)).toMatchObject({
    createPod: false,
    succeeded: 1,
    conditions: { type: "Complete" },
  });
});

test("failed pods are replaced after a wait that doubles, until the limit", () => {
  expect(decideJob(job(), [pod("Failed", 400)], NOW)).toMatchObject({ createPod: false, waitMs: 600 });
  expect(decideJob(job(), [pod("Failed", 1000)], NOW)).toMatchObject({ createPod: true });
  expect(decideJob(job(), [pod("Failed", 5000), pod("Failed", 1500)], NOW)).toMatchObject({
    createPod: false,
    waitMs: 500,
  });
  expect(decideJob(job({ backoffLimit: 1 }), [pod("Failed", 9000), pod("Failed", 9000)], NOW)).toMatchObject({
    createPod: false,
    conditions: { type: "Failed", reason: "BackoffLimitExceeded" },
  });
});

test("a suspended or leaving Job makes none", () => {
  expect(decideJob(job({ suspend: true }), [], NOW).createPod).toBe(false);
  const leaving = job();
  leaving.metadata.deletionTimestamp = new Date(NOW).toISOString();
  expect(decideJob(leaving, [], NOW).createPod).toBe(false);
});
