import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { readCarried, saysTheSame } from "./carried-objects.ts";

const secret = (more: object) => ({ apiVersion: "v1", kind: "Secret", metadata: { name: "init" }, ...more });
const revision = (data: object) => ({
  apiVersion: "apps/v1",
  kind: "ControllerRevision",
  metadata: { name: "r" },
  data,
});
const instancetype = {
  apiVersion: "instancetype.kubevirt.io/v1beta1",
  kind: "VirtualMachineInstancetype",
  metadata: { name: "large", uid: "x", labels: { a: "b" } },
  spec: { cpu: { guest: 2 }, annotations: { a: "b" }, schedulerName: "mine" },
};
const only = (object: unknown) => readCarried([object], undefined).objects[0];

test("what is written in the clear and what is in base64 is the same Secret", () => {
  const plain = only(secret({ stringData: { a: "x" } }));
  expect(plain?.content).toEqual({ type: "Opaque", data: { a: "eA==" } });
  if (plain === undefined) throw new Error("no Secret");
  expect(saysTheSame(plain, secret({ data: { a: "eA==" }, type: "Opaque", immutable: true }))).toBe(true);
  expect(saysTheSame(plain, secret({ data: { a: "eQ==" } }))).toBe(false);
  expect(saysTheSame(plain, secret({ data: { a: "eA==", b: "" } }))).toBe(false);
  expect(saysTheSame(plain, secret({ data: { a: "eA==" }, type: "kubernetes.io/service-account-token" }))).toBe(false);
});

test("of a revision nothing is kept but the instancetype's known fields", () => {
  expect(only(revision(instancetype))?.content).toEqual({
    data: { ...instancetype, metadata: { name: "large" }, spec: { cpu: { guest: 2 } } },
    revision: 0,
  });
  for (const data of [{}, { ...instancetype, kind: "Pod" }, { ...instancetype, apiVersion: "apps/v1" }, { spec: {} }])
    expect(only(revision(data))).toBeUndefined();
});

test("a running machine is only that of the manifest's name", () => {
  const instance = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachineInstance",
    metadata: { name: "db" },
    status: {},
  };
  expect(readCarried([instance], "db").running).toBeDefined();
  expect(readCarried([instance], "other").running).toBeUndefined();
  const interfaces = [{ name: "a", mac: "02:00:00:00:00:01" }, { name: "b", mac: "x; rm -rf /" }, null, 7];
  expect([...(readCarried([{ ...instance, status: { interfaces } }], "db").running?.macs ?? [])]).toEqual([
    ["a", "02:00:00:00:00:01"],
  ]);
});

const EVIL = ["data", "stringData", "binaryData", "type", "metadata", "spec", "labels", "ownerReferences", "__proto__"];
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  Secret: ["type", "data", "immutable"],
  ConfigMap: ["data", "binaryData", "immutable"],
  ControllerRevision: ["data", "revision"],
};

test("whatever lies beside a manifest, only known kinds with known fields come out", () => {
  const noise = fc.object({ maxDepth: 3, key: fc.oneof(fc.constantFrom(...EVIL), fc.string()) });
  const object = fc.record({
    apiVersion: fc.constantFrom("v1", "apps/v1", "kubevirt.io/v1"),
    kind: fc.constantFrom(
      "Secret",
      "ConfigMap",
      "ControllerRevision",
      "Pod",
      "VirtualMachineInstance",
      "ServiceAccount",
    ),
    name: fc.constantFrom("init", "../init", ""),
    noise,
    isInstancetype: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(fc.oneof(object, noise)), (given) => {
      const objects = given.map((each) => {
        if (!("kind" in each) || !("noise" in each)) return each;
        const { apiVersion, kind, name, noise: more, isInstancetype } = each as never as Record<string, object>;
        const data = isInstancetype
          ? { data: { ...instancetype, ...more, spec: { ...instancetype.spec, ...more } } }
          : {};
        return { ...more, ...data, apiVersion, kind, metadata: { ...more, name } };
      });
      for (const { kind, name, content } of readCarried(objects, "init").objects) {
        expect(name).toBe("init");
        for (const field of Object.keys(content)) expect(KNOWN[kind]).toContain(field);
        if (kind === "ControllerRevision") {
          const { metadata, spec } = content.data as { metadata: object; spec: object };
          expect(Object.keys(metadata)).toEqual(["name"]);
          for (const field of ["annotations", "schedulerName", ...EVIL]) expect(Object.keys(spec)).not.toContain(field);
        } else {
          for (const value of Object.values((content.data ?? {}) as object)) expect(typeof value).toBe("string");
        }
      }
    }),
    { numRuns: 300 },
  );
});
