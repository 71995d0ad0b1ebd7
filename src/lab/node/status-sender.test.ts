import { expect, test } from "@jest/globals";
import { silentLogger } from "../../base/logging.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { ApiError } from "../../operator/runtime/errors.ts";
import { FakeCluster } from "../../operator/runtime/testing/fake-cluster.ts";
import { PODS } from "../controllers/kinds.ts";
import type { NodePod, PodStatus } from "./pod-spec.ts";
import { StatusSender } from "./status-sender.ts";

const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p", namespace: "default", uid: "" } } as NodePod;
const phase = (is: string) => ({ phase: is }) as PodStatus;

function place() {
  const clock = new ManualClock();
  const cluster = new FakeCluster(clock);
  cluster.put(PODS, { ...pod } as never);
  pod.metadata.uid = cluster.peek(PODS, "default", "p")?.metadata.uid ?? "";
  const ending = new AbortController();
  let refusals = 0;
  let attempts = 0;
  cluster.onWrite = (_, moment) => {
    if (moment !== "before") return;
    attempts++;
    if (refusals > 0) {
      refusals--;
      throw new ApiError("connection refused");
    }
  };
  return {
    ...{ clock, cluster, ending },
    sender: new StatusSender({ cluster, clock, logger: silentLogger }, ending.signal),
    refuse: (times: number) => {
      refusals = times;
    },
    attempts: () => attempts,
    written: () => (cluster.peek(PODS, "default", "p") as { status?: PodStatus } | undefined)?.status?.phase,
  };
}

test("a status that could not be written is written later, or a newer one in its place", async () => {
  const { sender, clock, refuse, written } = place();
  refuse(2);
  sender.publish(pod, "default/p", phase("Pending"));
  await clock.advance(0);
  await clock.advance(500);
  sender.publish(pod, "default/p", phase("Running"));
  expect(written()).toBeUndefined();
  await clock.advance(500);
  expect(written()).toBe("Running");
});

test("after the end nothing is tried again: a cluster that is gone keeps no process alive", async () => {
  const { sender, clock, refuse, ending, attempts } = place();
  refuse(Number.POSITIVE_INFINITY);
  sender.publish(pod, "default/p", phase("Running"));
  await clock.advance(0);
  await clock.advance(500);
  ending.abort();
  await clock.advance(500);
  const tried = attempts();
  expect(tried).toBeGreaterThan(1);
  sender.publish(pod, "default/p", phase("Failed"));
  await clock.advance(60_000);
  expect(attempts()).toBeLessThanOrEqual(tried + 1);
});
