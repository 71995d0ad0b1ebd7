import { expect, test } from "@jest/globals";
import type { InstanceSpec, VirtualMachineInstance } from "./kinds.ts";
import { machineSpecOf, type Surroundings } from "./machine-spec.ts";
import { qemuArguments } from "./qemu-arguments.ts";

const AROUND: Surroundings = {
  ...{ accelerator: "tcg", podIP: "127.97.0.5", lowPorts: true },
  sources: new Map([
    ["root", { source: { kind: "nfs", server: "127.96.0.3", path: "/secret/disk.img" }, canBypassCache: true }],
    ["data", { source: { kind: "file", path: "/volumes/a,b/block.img" }, canBypassCache: false }],
  ]),
};
const PATHS = { qmp: "/run/q/qmp", agent: "/run/q/agent", console: "/logs/a,b" };

function instance(spec: InstanceSpec): VirtualMachineInstance {
  return {
    ...{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", spec },
    metadata: { name: "vm", namespace: "ns", uid: "0b3f" },
  };
}

function argumentsOf(spec: InstanceSpec, around = AROUND): string[] {
  return qemuArguments(machineSpecOf(instance(spec), around), PATHS);
}

const valuesOf = (args: string[], option: string): string[] =>
  args.flatMap((text, index) => (args[index - 1] === option ? [text] : []));

test("a manifest's machine, as QEMU is told", () => {
  const args = argumentsOf({
    domain: {
      machine: { type: "pc-q35-rhel9.4.0" },
      cpu: { cores: 2, sockets: 2 },
      memory: { guest: "768Mi" },
      firmware: { uuid: "5d307ca9-b3ef-428c-8861-06e72d69f223", serial: "a,b" },
      devices: {
        disks: [
          { name: "root", disk: { bus: "virtio" }, bootOrder: 1 },
          { name: "data", disk: { bus: "scsi", readonly: true }, cache: "writethrough", errorPolicy: "report" },
        ],
        interfaces: [
          { name: "default", masquerade: {}, macAddress: "02-00-00-00-00-01" },
          { name: "other", bridge: {}, model: "e1000" },
        ],
        rng: {},
      },
    },
    networks: [
      { name: "default", pod: {} },
      { name: "other", multus: {} },
    ],
  });
  expect(valuesOf(args, "-machine")).toEqual(["q35"]);
  expect(valuesOf(args, "-smp")).toEqual(["4"]);
  expect(valuesOf(args, "-m")).toEqual([`size=${768 * 1024 + 64}k`]);
  expect(valuesOf(args, "-uuid")).toEqual(["5d307ca9-b3ef-428c-8861-06e72d69f223"]);
  expect(valuesOf(args, "-smbios")[0]).toContain("serial=a,,b");
  expect(valuesOf(args, "-chardev")[0]).toBe("file,id=console,path=/logs/a,,b,append=on");
  const [root, data] = valuesOf(args, "-blockdev").map((text) => JSON.parse(text));
  expect(root).toMatchObject({
    ...{ driver: "raw", cache: { direct: true }, "read-only": false },
    file: { driver: "nfs", server: { type: "inet", host: "127.96.0.3" }, path: "/secret/disk.img", user: 107 },
  });
  expect(data).toMatchObject({
    ...{ cache: { direct: false }, "read-only": true },
    file: { driver: "file", filename: "/volumes/a,b/block.img" },
  });
  const devices = valuesOf(args, "-device").flatMap((text) => (text.startsWith("{") ? [JSON.parse(text)] : []));
  expect(devices).toEqual([
    expect.objectContaining({
      driver: "virtio-blk-pci",
      bootindex: 1,
      werror: "stop",
      rerror: "stop",
      "write-cache": "on",
    }),
    expect.objectContaining({
      driver: "scsi-hd",
      bus: "scsi.0",
      werror: "report",
      rerror: "report",
      "write-cache": "off",
    }),
  ]);
  expect(valuesOf(args, "-netdev")).toEqual([
    "user,id=net0,hostfwd=tcp:127.97.0.5:22-:22,hostfwd=tcp:127.97.0.5:80-:80,hostfwd=tcp:127.97.0.5:443-:443",
    "user,id=net1,restrict=on",
  ]);
  expect(args).toContain("virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01");
});

test("an emulated guest's memory is never of a size that QEMU before 9.0 moves wrongly; KVM's is what the manifest says", () => {
  const kib = (guest: string, around = AROUND): number =>
    Number(/^size=(\d+)k$/.exec(valuesOf(argumentsOf({ domain: { memory: { guest } } }, around), "-m")[0] ?? "")?.[1]);
  for (const guest of ["128Mi", "1Gi", "300M", "131072Ki", "131136Ki"]) expect(kib(guest) % 256).not.toBe(0);
  expect(kib("131136Ki")).toBe(131_136);
  expect(kib("1Gi", { ...AROUND, accelerator: "kvm" })).toBe(2 ** 20);
});

test("a manifest that says nothing of interfaces gets the pod network, unless it forbids it", () => {
  expect(valuesOf(argumentsOf({}), "-netdev")).toHaveLength(1);
  expect(valuesOf(argumentsOf({ domain: { devices: { autoattachPodInterface: false } } }), "-netdev")).toEqual([]);
});

test("ports that cannot be bound are left out", () => {
  const interfaces = [{ name: "default", ports: [{ port: 80 }, { port: 8080 }] }];
  const [netdev] = valuesOf(
    argumentsOf({ domain: { devices: { interfaces } } }, { ...AROUND, lowPorts: false }),
    "-netdev",
  );
  expect(netdev).toBe("user,id=net0,hostfwd=tcp:127.97.0.5:8080-:8080");
});

test("a machine without a MAC address has the same one each time, and it is a local one", () => {
  const mac = (uid: string): string | undefined => {
    const vm = { ...instance({}), metadata: { name: "vm", namespace: "ns", uid } };
    return machineSpecOf(vm, AROUND).interfaces[0]?.mac;
  };
  expect(mac("a")).toMatch(/^02(:[0-9a-f]{2}){5}$/);
  expect(mac("a")).toBe(mac("a"));
  expect(mac("b")).not.toBe(mac("a"));
});

test.each<[string, InstanceSpec]>([
  ["EFI", { domain: { firmware: { bootloader: { efi: {} } } } }],
  ["no volume other", { domain: { devices: { disks: [{ name: "other", disk: { bus: "virtio" } }] } } }],
  ["no usb bus", { domain: { devices: { disks: [{ name: "root", disk: { bus: "usb" } }] } } }],
  ["LUN", { domain: { devices: { disks: [{ name: "root", lun: {} }] } } }],
  ["no amount of memory: much", { domain: { memory: { guest: "much" } } }],
])("refused: %s", (message, spec) => {
  expect(() => argumentsOf(spec)).toThrow(message);
});
