import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { type VMRestore, vmRestoreSpec } from "../../api/vm-restore.ts";
import { readCarried } from "./manifest/carried-objects.ts";
import {
  DEVICE_FIELDS,
  DISK_FIELDS,
  DOMAIN_FIELDS,
  FIRMWARE_FIELDS,
  INTERFACE_FIELDS,
  NETWORK_FIELDS,
} from "./manifest/domain-fields.ts";
import { SCHEDULING_FIELDS } from "./manifest/scheduling-fields.ts";
import { type Fields, fields, list, map, marker, type Shape, text } from "./manifest/shape.ts";
import { ACCESS_CREDENTIALS, RESOURCE_CLAIMS, VOLUME_FIELDS } from "./manifest/volume-fields.ts";
import { legacyUuid, recreate } from "./recreate.ts";
import { manifest } from "./testing/backed-up.ts";
import { fullManifest, RUNNING_INSTANCE } from "./testing/full-manifest.ts";

const restore: VMRestore = {
  apiVersion: "vmrestore.io/v1alpha1",
  kind: "VMRestore",
  metadata: { name: "r", namespace: "default", uid: "11111111-2222-3333-4444-555555555555" },
  spec: {},
};
const CLAIMS = new Map([["root", "orders-db-root-restoring"]]);
const BOTH = new Map([
  ["root", "root-restoring"],
  ["data", "data-restoring"],
]);

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
  Object.assign(template.domain.devices, { filesystems: [{ name: "other", virtiofs: {} }] });
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
    "filesystems",
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
    expect.arrayContaining(["volume host", "volume other", "volume account", "template.spec.schedulerName"]),
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

test("a machine that uses everything is the same afterwards, on our claims", () => {
  const source = fullManifest();
  const result = recreate(restore, specWith(), source, BOTH);
  if ("problem" in result) throw new Error(result.problem);
  const { metadata, spec } = result.machine;
  expect(metadata.annotations).toEqual({ description: "orders" });
  const { dataVolumeTemplates: _, template: given, ...pinned } = source.spec;
  const [large, windows] = result.revisions;
  expect(result.revisions.map(({ original }) => original)).toEqual(["orders-db-large-1", "orders-db-windows-1"]);
  expect(spec).toMatchObject({
    runStrategy: pinned.runStrategy,
    instancetype: { ...pinned.instancetype, revisionName: large?.name },
    preference: { ...pinned.preference, revisionName: windows?.name },
  });
  expect(spec?.template).toMatchObject({
    metadata: { annotations: given.metadata.annotations, labels: given.metadata.labels },
  });
  const { domain, volumes, networks, ...others } = given.spec;
  const made = spec?.template?.spec;
  expect(made).toMatchObject(others);
  expect(made?.networks).toEqual(networks);
  const { devices, ...hardware } = domain;
  expect(made?.domain).toMatchObject(hardware);
  const { disks, ...cards } = devices;
  expect(made?.domain?.devices).toMatchObject(cards);
  expect(made?.domain?.devices?.disks).toEqual([
    { ...disks[0], cache: "none", errorPolicy: "stop" },
    { ...disks[1], cache: "none", errorPolicy: "stop" },
    ...disks.slice(2),
  ]);
  expect(made?.volumes).toEqual([
    { name: "root", persistentVolumeClaim: { claimName: "root-restoring" } },
    { name: "data", persistentVolumeClaim: { claimName: "data-restoring", hotpluggable: true } },
    ...volumes.slice(2, 5),
  ]);
  expect(result.leftOut).toEqual(["volume dump"]);
  expect(result.keepsState).toBe(true);
});

test("what the manifest does not tell is taken from the machine as it ran", () => {
  const source = fullManifest();
  const { domain } = source.spec.template.spec;
  Object.assign(domain, { machine: undefined, firmware: {} });
  const carried = readCarried([RUNNING_INSTANCE], "orders-db");
  const result = recreate(restore, specWith(), source, BOTH, carried);
  if ("problem" in result) throw new Error(result.problem);
  const made = result.machine.spec?.template?.spec?.domain;
  expect(made?.machine).toEqual({ type: "pc-q35-9.2" });
  expect(made?.firmware).toEqual({ serial: "from-instance", uuid: legacyUuid("orders-db") });
  const nics = made?.devices?.interfaces as { macAddress?: string }[];
  expect(nics.map(({ macAddress }) => macAddress)).toEqual(["52:54:00:aa:bb:01", "02:5a:17:00:00:22"]);
  const clone = recreate(restore, specWith({ macAddresses: "Regenerate" }), source, BOTH, carried);
  expect(JSON.stringify(clone)).not.toContain("macAddress");
});

test("an instancetype's revision is taken from the status where the spec does not pin it, and can be given up", () => {
  const source = fullManifest();
  Object.assign(source, {
    status: { instancetypeRef: { name: "large", controllerRevisionRef: { name: "from-status" } } },
  });
  Object.assign(source.spec.instancetype, { revisionName: undefined });
  const pinned = recreate(restore, specWith(), source, BOTH);
  expect(pinned).toMatchObject({
    machine: { spec: { instancetype: { name: "large", revisionName: expect.stringMatching(/^copy-[0-9a-f]{16}$/) } } },
    revisions: [{ original: "from-status" }, { original: "orders-db-windows-1" }],
  });
  const current = recreate(restore, specWith({ instancetypeRevisions: "Current" }), source, BOTH);
  expect(current).toMatchObject({
    machine: {
      spec: { instancetype: { kind: "VirtualMachineInstancetype", name: "large" }, preference: { name: "windows" } },
    },
  });
  expect(JSON.stringify(current)).not.toContain("revisionName");
});

test("a clone can be kept from the Services of the original", () => {
  const source = fullManifest();
  const result = recreate(restore, specWith({ labels: "Drop" }), source, BOTH);
  expect(JSON.stringify(result)).not.toMatch(/"tier"|"app"/);
});

test("a ServiceAccount's token is mounted only where that is asked for", () => {
  const source = manifest();
  source.spec.template.spec.volumes.push({ name: "account", serviceAccount: { serviceAccountName: "admin" } } as never);
  expect(JSON.stringify(recreate(restore, specWith(), source, CLAIMS))).not.toContain("admin");
  const kept = recreate(restore, specWith({ serviceAccounts: "Keep" }), source, CLAIMS);
  expect(JSON.stringify(kept)).toContain('"serviceAccountName":"admin"');
});

test("a certificate that opens a media agent is given to no guest", () => {
  const source = manifest();
  const secretName = "vmr-11111111-2222-3333-4444-555555555555-copy";
  source.spec.template.spec.volumes.push({ name: "key", secret: { secretName } } as never);
  const result = recreate(restore, specWith(), source, CLAIMS);
  expect(result).toMatchObject({ leftOut: ["volume key"] });
  expect(JSON.stringify("machine" in result && result.machine)).not.toContain(secretName);
});

test("a restored CD stays one, and a LUN becomes a disk on its bus", () => {
  const source = manifest();
  Object.assign(source.spec.template.spec.domain.devices, {
    disks: [{ name: "root", lun: { bus: "scsi", reservation: true }, shareable: true }],
  });
  const disks = (given: unknown) => made(given).spec.template.spec.domain.devices.disks;
  const options = { cache: "none", errorPolicy: "stop" };
  expect(disks(source)).toEqual([{ name: "root", disk: { bus: "scsi" }, ...options }]);
  Object.assign(source.spec.template.spec.domain.devices, { disks: [{ name: "root", cdrom: { bus: "sata" } }] });
  expect(disks(source)).toEqual([{ name: "root", cdrom: { bus: "sata" }, ...options }]);
});

test("networks are joined as they are mapped, each with a binding that is possible there", () => {
  const networkMap = [
    { from: "pod", to: "isolated" },
    { from: "infra/lan", to: "pod" },
  ];
  const result = recreate(restore, specWith({ networks: "Map", networkMap }), fullManifest(), BOTH);
  if ("problem" in result) throw new Error(result.problem);
  const template = result.machine.spec?.template?.spec;
  expect(template?.networks).toEqual([
    { name: "default", multus: { networkName: "isolated" } },
    { name: "lan", pod: {} },
  ]);
  expect(template?.domain?.devices?.interfaces).toEqual([
    { name: "default", bridge: {}, model: "virtio", ports: [{ port: 5432 }] },
    { name: "lan", masquerade: {}, macAddress: "02:5a:17:00:00:22", acpiIndex: 2 },
  ]);
});

test("a network that the map forgets is not joined: it is said; and every one can be left out", () => {
  const forgets = specWith({ networks: "Map", networkMap: [{ from: "pod", to: "pod" }] });
  expect(recreate(restore, forgets, fullManifest(), BOTH)).toMatchObject({
    reason: "NetworkNotMapped",
    problem: expect.stringContaining("infra/lan"),
  });
  const none = specWith({ networks: "Map", networkMap: [{ from: "*", to: "none" }] });
  const result = recreate(restore, none, fullManifest(), BOTH);
  const template = "machine" in result ? result.machine.spec?.template?.spec : undefined;
  expect(template?.networks).toBeUndefined();
  expect(template?.domain?.devices).toMatchObject({ interfaces: [], autoattachPodInterface: false });
});

/** What a machine may consist of, spelled out once more from the lists of known fields. */
const labelled = fields({ name: text(), namespace: text(), labels: map(), annotations: map() });
const claim = fields({ claimName: text(), hotpluggable: { is: "flag" } });
const matched = fields({ name: text(), kind: text(), revisionName: text() });
const KNOWN: Shape = fields({
  apiVersion: text(),
  kind: text(),
  metadata: labelled,
  spec: fields({
    runStrategy: text(),
    instancetype: matched,
    preference: matched,
    template: fields({
      metadata: labelled,
      spec: fields({
        ...SCHEDULING_FIELDS,
        architecture: text(),
        accessCredentials: ACCESS_CREDENTIALS,
        resourceClaims: RESOURCE_CLAIMS,
        networks: list(fields(NETWORK_FIELDS)),
        volumes: list(fields({ ...VOLUME_FIELDS, name: text(), persistentVolumeClaim: claim }), 256),
        domain: fields({
          ...DOMAIN_FIELDS,
          firmware: fields(FIRMWARE_FIELDS),
          devices: fields({
            ...DEVICE_FIELDS,
            disks: list(fields(DISK_FIELDS), 256),
            interfaces: list(fields(INTERFACE_FIELDS)),
            filesystems: list(fields({ name: text(), virtiofs: marker })),
          }),
        }),
      }),
    }),
  }),
});

function unknownIn(value: unknown, shape: Shape | undefined, path: string): string[] {
  if (value === undefined) return [];
  if (shape === undefined) return [path];
  if (shape.is === "list")
    return Array.isArray(value)
      ? value.flatMap((item, index) => unknownIn(item, shape.of, `${path}[${index}]`))
      : [path];
  if (shape.is !== "fields" && shape.is !== "map") return typeof value === "object" ? [path] : [];
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [path];
  const known = (name: string) => (shape.is === "map" ? shape.of : (shape.fields as Fields)[name]);
  return Object.entries(value).flatMap(([name, inner]) => unknownIn(inner, known(name), `${path}.${name}`));
}

/** Every object and list of a manifest, to be spoiled. */
function* places(value: unknown): Generator<Record<string, unknown> | unknown[]> {
  if (typeof value !== "object" || value === null) return;
  yield value as Record<string, unknown>;
  for (const inner of Object.values(value)) yield* places(inner);
}

const EVIL_NAMES = [
  ...["evil", "__proto__", "constructor", "hostDisk", "containerPath", "serviceAccount", "ephemeral", "memoryDump"],
  ...["persistentVolumeClaim", "dataVolume", "serviceAccountName", "schedulerName", "priorityClassName", "claimName"],
  ...["ownerReferences", "finalizers", "annotations", "utilityVolumes", "name", "lun", "disk", "networks", "spec"],
];

test("whatever is in a manifest, no field that is not known comes out, and no claim but ours", () => {
  const spoiling = fc.record({
    at: fc.nat(),
    name: fc.constantFrom(...EVIL_NAMES),
    value: fc.oneof(
      fc.object({ maxDepth: 3, key: fc.constantFrom(...EVIL_NAMES) }),
      fc.constantFrom(null, "evil", 7, true, { claimName: "evil" }, [{ name: "evil", hostDisk: { path: "/dev/sda" } }]),
      fc.string(),
    ),
  });
  fc.assert(
    fc.property(fc.array(spoiling, { maxLength: 12 }), fc.boolean(), (spoilings, isFull) => {
      const source = isFull ? fullManifest() : manifest(["root", "data"]);
      for (const { at, name, value: given } of spoilings) {
        const value: unknown = structuredClone(given);
        const all = [...places(source)];
        const place = all[at % all.length];
        if (Array.isArray(place)) place.push(value);
        else if (place !== undefined)
          Object.defineProperty(place, name, { value, enumerable: true, configurable: true, writable: true });
      }
      const result = recreate(restore, specWith(), source, BOTH);
      if ("problem" in result) return;
      expect(unknownIn(result.machine, KNOWN, "")).toEqual([]);
      const claims = (result.machine.spec?.template?.spec?.volumes ?? []).flatMap(
        ({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName ?? [],
      );
      for (const claimName of claims) expect(["root-restoring", "data-restoring"]).toContain(claimName);
      for (const note of result.leftOut) expect(note).toMatch(/^[-\w./[\] ?]{1,100}$/);
    }),
    { numRuns: 300 },
  );
});
