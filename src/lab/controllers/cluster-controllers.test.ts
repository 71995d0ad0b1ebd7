import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logging.ts";
import type { KubernetesObject, Manifest, ResourceType } from "../../operator/runtime/objects.ts";
import { resourcePath } from "../../operator/runtime/objects.ts";
import { RestCluster } from "../../operator/runtime/rest-cluster.ts";
import { Transport } from "../../operator/runtime/transport.ts";
import { startTestControlPlane, type TestControlPlane } from "../testing/test-control-plane.ts";
import { runGarbageCollector } from "./garbage-collector.ts";
import { PODS, VOLUME_CLAIMS, VOLUMES } from "./kinds.ts";
import type { LabContext } from "./lab-controller.ts";
import { runNamespaceController } from "./namespace.ts";
import { runVolumeProtection } from "./volume-protection.ts";

const CONFIG_MAPS: ResourceType = { apiVersion: "v1", kind: "ConfigMap", plural: "configmaps", namespaced: true };
const NAMESPACES: ResourceType = { apiVersion: "v1", kind: "Namespace", plural: "namespaces", namespaced: false };
const DEFINITIONS: ResourceType = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  namespaced: false,
};
const WIDGETS: ResourceType = { apiVersion: "lab.test/v1", kind: "Widget", plural: "widgets", namespaced: true };

let plane: TestControlPlane;
let context: LabContext;
let transport: Transport;
let running: Promise<void>[];
const ending = new AbortController();

beforeAll(async () => {
  plane = await startTestControlPlane();
  transport = new Transport(plane.config);
  const cluster = new RestCluster(transport, ending.signal, "test");
  context = { cluster, transport, clock: systemClock, logger: silentLogger };
  running = [
    runGarbageCollector(context, ending.signal),
    runNamespaceController(context, ending.signal),
    runVolumeProtection(context, ending.signal),
  ];
});

afterAll(async () => {
  ending.abort();
  await Promise.allSettled(running);
  transport.close();
  await plane.close();
});

function configMap(name: string, owners: readonly KubernetesObject[] = []): Manifest {
  const ownerReferences = owners.map(({ apiVersion, kind, metadata: { name: owner, uid = "" } }) => ({
    ...{ apiVersion, kind, name: owner, uid },
    blockOwnerDeletion: true,
  }));
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "default", ownerReferences } };
}

async function made(type: ResourceType, object: Manifest): Promise<KubernetesObject> {
  await context.cluster.create(type, object);
  const found = await context.cluster.get(type, object.metadata.namespace, object.metadata.name);
  if (found === undefined) throw new Error(`${object.metadata.name} was not made`);
  return found;
}

async function gone(type: ResourceType, name: string, namespace = "default"): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if ((await context.cluster.get(type, namespace, name)) === undefined) return;
    await systemClock.sleep(50);
  }
  throw new Error(`${type.kind} ${name} is still there`);
}

async function remove(type: ResourceType, name: string, propagationPolicy: string): Promise<void> {
  const body = { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy };
  await transport.request({ method: "DELETE", path: resourcePath(type, "default", name), body });
}

test("what is owned goes with its owner, level by level", async () => {
  const owner = await made(CONFIG_MAPS, configMap("owner"));
  const child = await made(CONFIG_MAPS, configMap("child", [owner]));
  await made(CONFIG_MAPS, configMap("grandchild", [child]));
  await remove(CONFIG_MAPS, "owner", "Background");
  await gone(CONFIG_MAPS, "grandchild");
  await gone(CONFIG_MAPS, "child");
});

test("what has another owner stays, and forgets the one that is gone", async () => {
  const [first, second] = [await made(CONFIG_MAPS, configMap("first")), await made(CONFIG_MAPS, configMap("second"))];
  await made(CONFIG_MAPS, configMap("shared", [first, second]));
  await remove(CONFIG_MAPS, "first", "Background");
  for (let owners = 2; owners !== 1; await systemClock.sleep(20)) {
    const shared = await context.cluster.get(CONFIG_MAPS, "default", "shared");
    owners = shared?.metadata.ownerReferences?.length ?? 0;
    expect(owners).toBeGreaterThan(0);
  }
  await remove(CONFIG_MAPS, "second", "Background");
  await gone(CONFIG_MAPS, "shared");
});

test("foreground deletion takes the dependents first", async () => {
  const owner = await made(CONFIG_MAPS, configMap("front"));
  const held = configMap("held", [owner]);
  held.metadata.finalizers = ["lab.test/held"];
  await made(CONFIG_MAPS, held);
  await remove(CONFIG_MAPS, "front", "Foreground");
  let child: KubernetesObject | undefined;
  do {
    await systemClock.sleep(20);
    child = await context.cluster.get(CONFIG_MAPS, "default", "held");
  } while (child?.metadata.deletionTimestamp === undefined);
  expect(await context.cluster.get(CONFIG_MAPS, "default", "front")).toBeDefined();
  await transport.request({
    method: "PATCH",
    path: resourcePath(CONFIG_MAPS, "default", "held"),
    contentType: "application/merge-patch+json",
    body: { metadata: { finalizers: null } },
  });
  await gone(CONFIG_MAPS, "held");
  await gone(CONFIG_MAPS, "front");
});

test("orphaning lets the dependents live, without their owner", async () => {
  const owner = await made(CONFIG_MAPS, configMap("parent"));
  await made(CONFIG_MAPS, configMap("orphan", [owner]));
  await remove(CONFIG_MAPS, "parent", "Orphan");
  await gone(CONFIG_MAPS, "parent");
  const orphan = await context.cluster.get(CONFIG_MAPS, "default", "orphan");
  expect(orphan?.metadata.ownerReferences ?? []).toEqual([]);
});

test("objects of custom kinds are collected too", async () => {
  await context.cluster.create(DEFINITIONS, {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "widgets.lab.test" },
    spec: {
      group: "lab.test",
      scope: "Namespaced",
      names: { plural: "widgets", kind: "Widget" },
      versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object" } } }],
    },
  });
  await systemClock.sleep(100);
  const owner = await made(WIDGETS, { ...configMap("widget"), apiVersion: "lab.test/v1", kind: "Widget" });
  await made(CONFIG_MAPS, configMap("of-widget", [owner]));
  await remove(WIDGETS, "widget", "Background");
  await gone(CONFIG_MAPS, "of-widget");
});

test("a namespace goes when it is empty", async () => {
  await made(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: "leaving" } });
  const held = configMap("held");
  held.metadata = { name: "held", namespace: "leaving", finalizers: ["lab.test/held"] };
  await made(CONFIG_MAPS, held);
  await remove(NAMESPACES, "leaving", "Background");
  const refused = context.cluster.create(CONFIG_MAPS, { ...held, metadata: { name: "late", namespace: "leaving" } });
  await expect(refused).rejects.toMatchObject({ status: 403 });
  await transport.request({
    method: "PATCH",
    path: resourcePath(CONFIG_MAPS, "leaving", "held"),
    contentType: "application/merge-patch+json",
    body: { metadata: { finalizers: null } },
  });
  await gone(NAMESPACES, "leaving");
});

test("a claim stays while a pod with a node uses it", async () => {
  await made(VOLUME_CLAIMS, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: "data", namespace: "default" },
    spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
  });
  await made(PODS, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "user", namespace: "default" },
    spec: {
      nodeName: "somewhere",
      terminationGracePeriodSeconds: 0,
      containers: [{ name: "c", image: "i" }],
      volumes: [{ name: "data", persistentVolumeClaim: { claimName: "data" } }],
    },
  });
  await remove(VOLUME_CLAIMS, "data", "Background");
  await systemClock.sleep(300);
  expect(await context.cluster.get(VOLUME_CLAIMS, "default", "data")).toBeDefined();
  await remove(PODS, "user", "Background");
  await gone(VOLUME_CLAIMS, "data");
});

test("a volume stays while it is bound", async () => {
  await made(VOLUMES, {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name: "volume" },
    spec: { capacity: { storage: "1Gi" }, accessModes: ["ReadWriteOnce"], hostPath: { path: "/tmp" } },
  });
  const status = (phase: string) =>
    context.cluster.applyStatus(VOLUMES, {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: "volume" },
      status: { phase },
    });
  await status("Bound");
  await remove(VOLUMES, "volume", "Background");
  await systemClock.sleep(300);
  expect(await context.cluster.get(VOLUMES, undefined, "volume")).toBeDefined();
  await status("Released");
  await gone(VOLUMES, "volume");
});
