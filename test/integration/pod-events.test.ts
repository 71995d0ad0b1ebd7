import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { CoreV1Api } from "@kubernetes/client-node";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { startTestControlPlane, type TestControlPlane } from "../../src/lab/testing/test-control-plane.ts";
import { PodEvents } from "../../src/operator/runtime/pod-events.ts";
import { Transport } from "../../src/operator/runtime/transport.ts";

// The events of one pod, from an API server that serves those of all.

const NAMESPACE = "default";
const POD = { namespace: NAMESPACE, uid: "6a1a24a1-4061-4607-8bf4-a3963d0c5895" };

let plane: TestControlPlane;
let core: CoreV1Api;
let transport: Transport;
const over = new AbortController();

beforeAll(async () => {
  plane = await startTestControlPlane();
  core = plane.config.makeApiClient(CoreV1Api);
  transport = new Transport(plane.config);
}, 120_000);

afterAll(async () => {
  over.abort();
  transport.close();
  await plane.close();
});

async function say(name: string, uid: string, message: string): Promise<void> {
  const involvedObject = { apiVersion: "v1", kind: "Pod", namespace: NAMESPACE, name: "virt-launcher-a", uid };
  const at = new Date();
  const times = { firstTimestamp: at, lastTimestamp: at, count: 1 };
  const body = { metadata: { name }, involvedObject, type: "Warning", reason: "FailedMount", message, ...times };
  await core.createNamespacedEvent({ namespace: NAMESPACE, body });
}

test("what is said of a pod is known, before and after somebody looks, and of no other", async () => {
  await say("before", POD.uid, "the first");
  await say("other", "0d7c1f5e-0000-4000-8000-000000000000", "of another pod");
  let woken: () => void = () => undefined;
  const queue = { add: () => woken() };
  const events = new PodEvents({ transport, clock: systemClock, logger: silentLogger, queue, signal: over.signal });
  const messages = () => events.look("default/a", POD).map(({ message }) => message);
  const until = (count: number) =>
    new Promise<void>((resolve) => {
      woken = () => {
        if (messages().length === count) resolve();
      };
      woken();
    });
  await until(1);
  expect(messages()).toEqual(["the first"]);
  await say("after", POD.uid, "the second");
  await until(2);
  expect(messages()).toEqual(["the first", "the second"]);
  expect(events.look("default/a", undefined)).toEqual([]);
}, 120_000);
