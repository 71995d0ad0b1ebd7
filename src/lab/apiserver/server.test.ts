import { stat } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { CoreV1Api, KubeConfig, type KubernetesObject, Watch } from "@kubernetes/client-node";
import { startTestControlPlane, type TestControlPlane } from "../testing/test-control-plane.ts";

let plane: TestControlPlane;
let config: KubeConfig;
let core: CoreV1Api;

beforeAll(async () => {
  plane = await startTestControlPlane();
  config = new KubeConfig();
  config.loadFromFile(plane.kubeconfigPath);
  core = plane.config.makeApiClient(CoreV1Api);
});

afterAll(async () => {
  await plane.close();
});

test("the kubeconfig is for its owner only", async () => {
  expect((await stat(plane.kubeconfigPath)).mode & 0o777).toBe(0o600);
});

test("a stranger is turned away", async () => {
  const stranger = new KubeConfig();
  stranger.loadFromFile(plane.kubeconfigPath);
  stranger.users = [{ name: "stranger", token: "no" }];
  const [context] = stranger.contexts;
  if (context !== undefined) stranger.contexts = [{ ...context, user: "stranger" }];
  await expect(stranger.makeApiClient(CoreV1Api).listNamespace()).rejects.toMatchObject({ code: 401 });
});

test("an object is created, read, replaced, listed and deleted", async () => {
  const namespace = "default";
  const created = await core.createNamespacedConfigMap({
    namespace,
    body: { metadata: { name: "a" }, data: { x: "1" } },
  });
  expect(created.metadata?.uid).toMatch(/^[0-9a-f-]{36}$/);
  const again = core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "a" } } });
  await expect(again).rejects.toMatchObject({ code: 409 });

  const read = await core.readNamespacedConfigMap({ namespace, name: "a" });
  const replaced = await core.replaceNamespacedConfigMap({ namespace, name: "a", body: { ...read, data: { x: "2" } } });
  expect(Number(replaced.metadata?.resourceVersion)).toBeGreaterThan(Number(read.metadata?.resourceVersion));
  expect(replaced.metadata?.uid).toBe(created.metadata?.uid);
  const stale = core.replaceNamespacedConfigMap({ namespace, name: "a", body: { ...read, data: { x: "3" } } });
  await expect(stale).rejects.toMatchObject({ code: 409 });

  const list = await core.listNamespacedConfigMap({ namespace, fieldSelector: "metadata.name=a" });
  expect(list.items.map((item) => item.data)).toEqual([{ x: "2" }]);
  await core.deleteNamespacedConfigMap({ namespace, name: "a" });
  await expect(core.readNamespacedConfigMap({ namespace, name: "a" })).rejects.toMatchObject({ code: 404 });
});

test("a watch tells what happened after its resource version, in order", async () => {
  const namespace = "default";
  const { metadata } = await core.listNamespacedConfigMap({ namespace });
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "w" } } });
  await core.deleteNamespacedConfigMap({ namespace, name: "w" });
  const seen: string[] = [];
  await new Promise<void>((resolve, reject) => {
    const query = { resourceVersion: metadata?.resourceVersion ?? "", timeoutSeconds: 1 };
    const tell = (phase: string, object: KubernetesObject) => seen.push(`${phase} ${object.metadata?.name}`);
    const watching = new Watch(config).watch(`/api/v1/namespaces/${namespace}/configmaps`, query, tell, (error) =>
      error ? reject(error) : resolve(),
    );
    watching.catch(reject);
  });
  expect(seen).toEqual(["ADDED w", "DELETED w"]);
});
