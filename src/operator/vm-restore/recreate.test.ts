import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { type VMRestore, vmRestoreSpec } from "../../api/vm-restore.ts";
import { legacyUuid, recreate } from "./recreate.ts";
import { manifest } from "./testing/world.ts";

const restore: VMRestore = {
  apiVersion: "vmrestore.io/v1alpha1",
  kind: "VMRestore",
  metadata: { name: "r", namespace: "default", uid: "11111111-2222-3333-4444-555555555555" },
  spec: {},
};
const CLAIMS = new Map([["root", "orders-db-root-restoring"]]);

function specWith(machine: object = {}) {
  return vmRestoreSpec.parse({
    source: { repository: { name: "r" }, snapshot: { latest: {} } },
    virtualMachine: { name: "copy", ...machine },
  });
}

// biome-ignore lint/suspicious/noExplicitAny: an object looked at field by field
function made(source: unknown, machine: object = {}): any {
  const result = recreate(restore, specWith(machine), source, CLAIMS);
  if ("problem" in result) throw new Error(result.problem);
  return result.machine;
}

test("the machine is the one that was backed up, on the agent's claims", () => {
  const { metadata, spec } = made(manifest());
  expect(metadata).toMatchObject({ name: "copy", namespace: "default", labels: { app: "orders-db" } });
  expect(spec.runStrategy).toBe("Always");
  expect(spec.dataVolumeTemplates).toBeUndefined();
  const template = spec.template.spec;
  expect(template.volumes).toEqual([
    { name: "root", persistentVolumeClaim: { claimName: "orders-db-root-restoring" } },
  ]);
  expect(template.domain.devices.disks).toEqual([
    { name: "root", disk: { bus: "virtio" }, cache: "none", errorPolicy: "stop" },
  ]);
  expect(template.domain.firmware.uuid).toBe("5d307ca9-b3ef-428c-8861-06e72d69f223");
  expect(template.domain.devices.interfaces[0].macAddress).toBe("02:5a:17:00:00:21");
});

test("identity, addresses and networks can be left behind", () => {
  const template = made(manifest(), { macAddresses: "Regenerate", firmwareIdentity: "Regenerate" }).spec.template.spec;
  expect(template.domain.firmware.uuid).toBeUndefined();
  expect(template.domain.devices.interfaces[0].macAddress).toBeUndefined();
  const alone = made(manifest(), { networks: "Disconnect" }).spec.template.spec;
  expect(alone.networks).toBeUndefined();
  expect(alone.domain.devices.interfaces).toEqual([]);
  expect(alone.domain.devices.autoattachPodInterface).toBe(false);
});

test("a machine without a UUID keeps the one that KubeVirt made from its name", () => {
  const source = manifest();
  Object.assign(source.spec.template.spec.domain, { firmware: {} });
  expect(made(source).spec.template.spec.domain.firmware.uuid).toBe(legacyUuid("orders-db"));
  // Computed with Python's uuid.uuid5.
  expect(legacyUuid("orders-db")).toBe("f5ca3dc1-8d37-5568-bc17-18a6328be106");
});

test("the PCI layout is kept, other annotations are not", () => {
  const source = manifest();
  Object.assign(source.spec.template.metadata, {
    annotations: { "kubevirt.io/pci-topology-version": "v3", "hooks.kubevirt.io/hookSidecars": "[{}]" },
  });
  expect(made(source).spec.template.metadata.annotations).toEqual({ "kubevirt.io/pci-topology-version": "v3" });
});

test("what a hostile manifest asks for is left out, and said", () => {
  const source = manifest();
  const template = source.spec.template.spec;
  Object.assign(source.spec, { dataVolumeTemplates: [{}], running: undefined });
  Object.assign(source.metadata, {
    labels: { "vmrestore.io/restore-uid": "another", app: "x" },
    ownerReferences: [{}],
    finalizers: ["a"],
  });
  Object.assign(template, { serviceAccountName: "admin", schedulerName: "mine" });
  Object.assign(template.domain.devices, { hostDevices: [{ name: "gpu" }], gpus: [{}], filesystems: [{}] });
  template.volumes.push(
    { name: "host", hostDisk: { path: "/dev/sda" } } as never,
    { name: "other", persistentVolumeClaim: { claimName: "somebody-elses" } },
    { name: "account", serviceAccount: { serviceAccountName: "admin" } } as never,
    { name: "two", emptyDisk: {}, hostDisk: { path: "/" } } as never,
    { name: "init", cloudInitNoCloud: { userData: "x" } } as never,
  );
  const result = recreate(restore, specWith(), source, CLAIMS);
  if ("problem" in result) throw new Error(result.problem);
  const text = JSON.stringify(result.machine);
  for (const word of [
    "hostDisk",
    "hostDevices",
    "gpus",
    "somebody-elses",
    "serviceAccount",
    "dataVolumeTemplates",
    "admin",
    "another",
    "ownerReferences",
  ]) {
    expect(text).not.toContain(word);
  }
  expect(result.leftOut).toEqual(
    expect.arrayContaining(["volume host", "volume other", "volume account", "devices.hostDevices"]),
  );
  expect(text).toContain("cloudInitNoCloud");
});

test.each([
  ["nothing", undefined],
  ["a list", []],
  ["another kind", { ...manifest(), kind: "Pod" }],
  ["no template", { ...manifest(), spec: {} }],
])("%s is no manifest", (_, source) => {
  expect(recreate(restore, specWith(), source, CLAIMS)).toMatchObject({ reason: "InvalidManifest" });
});

test("a disk that the manifest does not know is a mismatch", () => {
  const claims = new Map([...CLAIMS, ["data", "orders-db-data-restoring"]]);
  expect(recreate(restore, specWith(), manifest(), claims)).toMatchObject({ reason: "ManifestMismatch" });
});

test("whatever is in the manifest, no claim but ours is referred to", () => {
  fc.assert(
    fc.property(
      fc.object({
        maxDepth: 4,
        key: fc.constantFrom("name", "persistentVolumeClaim", "claimName", "hostDisk", "disks", "lun", "__proto__"),
      }),
      (noise) => {
        const source = manifest();
        Object.assign(source.spec.template.spec.domain.devices, {
          disks: [noise, { name: "root", lun: {} }].filter((disk) => typeof disk.name === "string"),
        });
        const result = recreate(restore, specWith(), source, CLAIMS);
        if ("problem" in result) return;
        const claims = result.machine.spec?.template?.spec?.volumes?.map(
          (volume) => volume.persistentVolumeClaim?.claimName,
        );
        expect(claims).toEqual(["orders-db-root-restoring"]);
      },
    ),
  );
});
