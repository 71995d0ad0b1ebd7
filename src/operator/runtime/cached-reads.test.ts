import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { CachedReads, type Watched } from "./cached-reads.ts";
import type { KubernetesObject, ResourceType } from "./objects.ts";
import { FakeCluster } from "./testing/fake-cluster.ts";

const core = (kind: string, plural: string): ResourceType => ({ apiVersion: "v1", kind, plural, namespaced: true });
const PODS = core("Pod", "pods");
const SECRETS = core("Secret", "secrets");

function workplace() {
  const clock = new ManualClock();
  const cluster = new FakeCluster(clock);
  const seen = new Map<string, KubernetesObject>();
  const pods = {
    type: PODS,
    namespace: undefined as string | undefined,
    synced: true as boolean,
    get: (namespace: string | undefined, name: string) => seen.get(`${namespace}/${name}`),
    objects: () => seen.values(),
  } satisfies Watched;
  const reads = new CachedReads([pods], cluster, clock, (name) => name.startsWith("vmr-"));
  const put = (type: ResourceType, name: string, labels: Record<string, string> = {}) => {
    cluster.put(type, { apiVersion: "v1", kind: type.kind, metadata: { name, namespace: "n", labels } });
    return cluster.peek(type, "n", name) as KubernetesObject;
  };
  const asked = () => cluster.reads.length;
  return { clock, cluster, seen, pods, reads, put, asked };
}

test("what is watched is known without asking, as far as it was told", async () => {
  const { seen, reads, put, asked } = workplace();
  const pod = put(PODS, "a", { app: "x" });
  expect(await reads.known.get(PODS, "n", "a")).toBeUndefined();
  seen.set("n/a", pod);
  expect(await reads.known.get(PODS, "n", "a")).toEqual(pod);
  expect(await reads.known.list(PODS, "n", "app=x")).toEqual([pod]);
  expect(await reads.known.list(PODS, "n", "app=y")).toEqual([]);
  expect(await reads.known.list(PODS, "other")).toEqual([]);
  expect(asked()).toBe(0);
  expect(await reads.now.get(PODS, "n", "a")).toEqual(pod);
  expect(asked()).toBe(1);
});

test("what is not watched, or not there yet, is asked for", async () => {
  const { pods, reads, put, asked } = workplace();
  put(PODS, "a");
  pods.synced = false;
  expect(await reads.known.get(PODS, "n", "a")).toBeDefined();
  expect(await reads.known.list(PODS, "n")).toHaveLength(1);
  pods.synced = true;
  pods.namespace = "other";
  expect(await reads.known.list(PODS, "n")).toHaveLength(1);
  expect(asked()).toBe(3);
});

test("of names that nobody else gives, what was read is remembered: for a minute, and until the next reading that there is none", async () => {
  const { clock, reads, put, asked, cluster } = workplace();
  expect(await reads.known.get(SECRETS, "n", "vmr-1")).toBeUndefined();
  await clock.advance(3600_000);
  expect(await reads.known.get(SECRETS, "n", "vmr-1")).toBeUndefined();
  expect(asked()).toBe(1);
  put(SECRETS, "vmr-1");
  expect(await reads.now.get(SECRETS, "n", "vmr-1")).toBeDefined();
  cluster.erase(SECRETS, "n", "vmr-1");
  await clock.advance(59_000);
  expect(await reads.known.get(SECRETS, "n", "vmr-1")).toBeDefined();
  expect(asked()).toBe(2);
  await clock.advance(2_000);
  expect(await reads.known.get(SECRETS, "n", "vmr-1")).toBeUndefined();
  expect(asked()).toBe(3);
});

test("what somebody else may make at any time is always asked for", async () => {
  const { reads, put, asked } = workplace();
  expect(await reads.known.get(SECRETS, "n", "password")).toBeUndefined();
  put(SECRETS, "password");
  expect(await reads.known.get(SECRETS, "n", "password")).toBeDefined();
  expect(asked()).toBe(2);
});
