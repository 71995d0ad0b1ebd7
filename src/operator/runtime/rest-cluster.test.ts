import { expect, test } from "@jest/globals";
import { VIRTUAL_MACHINES } from "../kinds.ts";
import { RestCluster } from "./rest-cluster.ts";
import type { ApiRequest } from "./transport.ts";

test("what is deleted alone leaves what it owns, and only in the version that was read", async () => {
  const asked: ApiRequest[] = [];
  const request = async (each: ApiRequest) => asked.push(each);
  const cluster = new RestCluster({ request }, new AbortController().signal);
  const object = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name: "a", namespace: "b", uid: "c", resourceVersion: "7" },
  };
  await cluster.delete(VIRTUAL_MACHINES, object, "Orphan");
  await cluster.delete(VIRTUAL_MACHINES, object);
  expect(asked.map(({ body }) => body)).toEqual([
    expect.objectContaining({ propagationPolicy: "Orphan", preconditions: { uid: "c", resourceVersion: "7" } }),
    expect.objectContaining({ propagationPolicy: "Background", preconditions: { uid: "c" } }),
  ]);
});
