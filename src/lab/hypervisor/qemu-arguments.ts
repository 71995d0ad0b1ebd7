import { HypervisorError } from "./errors.ts";
import type { DiskSource, MachineDisk, MachineInterface, MachinePaths, MachineSpec } from "./machine.ts";

/** QEMU's arguments for a machine. Nothing of QEMU's defaults or of the user's configuration files is taken. */
export function qemuArguments(machine: MachineSpec, paths: MachinePaths): string[] {
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-rtc", "base=utc"],
    ...["-name", `guest=${escapeComma(machine.name)}`],
    ...["-machine", machine.chipset, ...acceleratorArguments(machine)],
    ...["-smp", String(machine.cpus), "-m", `size=${memoryKib(machine)}k`],
    ...firmwareArguments(machine),
    ...["-chardev", `file,id=console,path=${escapeComma(paths.console)},append=on`, "-serial", "chardev:console"],
    ...["-qmp", `unix:${escapeComma(paths.qmp)},server=on,wait=off`],
    ...["-device", "virtio-serial-pci,id=channels"],
    ...["-chardev", `socket,id=agent,path=${escapeComma(paths.agent)},server=on,wait=off`],
    ...["-device", "virtserialport,bus=channels.0,id=agent-port,chardev=agent,name=org.qemu.guest_agent.0"],
    ...diskArguments(machine),
    ...machine.interfaces.flatMap(interfaceArguments),
    ...(machine.hasRandomSource
      ? ["-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"]
      : []),
  ];
}

function acceleratorArguments({ accelerator }: MachineSpec): string[] {
  return accelerator === "kvm" ? ["-accel", "kvm", "-cpu", "host"] : ["-accel", "tcg,thread=multi", "-cpu", "qemu64"];
}

/**
 * QEMU before 9.0 loses writes of an emulated guest when it moves memory whose size is a multiple of 256 KiB (64 pages): such
 * memory takes a short cut through the list of changed pages (`cpu_physical_memory_sync_dirty_bitmap`) that forgets to
 * have the processor tell of the next write to a page. The guest goes on with a mixture of old and new pages and dies.
 * 64 KiB more, which firmware's tables count in, leads round the short cut. The kernel keeps that list for KVM's guests.
 */
function memoryKib({ accelerator, memoryBytes }: MachineSpec): number {
  const kib = Math.floor(memoryBytes / 1024);
  return accelerator === "tcg" && kib % 256 === 0 ? kib + 64 : kib;
}

function firmwareArguments({ firmware }: MachineSpec): string[] {
  const fields = ["type=1", "manufacturer=KubeVirt", "product=None"];
  if (firmware.serial !== undefined) fields.push(`serial=${escapeComma(firmware.serial)}`);
  return [...(firmware.uuid === undefined ? [] : ["-uuid", firmware.uuid]), "-smbios", fields.join(",")];
}

function diskArguments(machine: MachineSpec): string[] {
  const controllers: string[] = [];
  if (machine.disks.some((disk) => disk.bus === "scsi")) controllers.push("-device", "virtio-scsi-pci,id=scsi");
  if (machine.chipset === "pc" && machine.disks.some((disk) => disk.bus === "sata")) {
    controllers.push("-device", "ahci,id=sata");
  }
  let sataPort = 0;
  return controllers.concat(
    machine.disks.flatMap((disk, index) => {
      const node = diskNode(index);
      const bus = disk.bus === "sata" ? `${machine.chipset === "pc" ? "sata" : "ide"}.${sataPort++}` : "scsi.0";
      return ["-blockdev", JSON.stringify(blockNode(node, disk)), "-device", JSON.stringify(device(node, disk, bus))];
    }),
  );
}

/** The name of QEMU's block node of a machine's disk. */
export function diskNode(index: number): string {
  return `disk${index}`;
}

function blockNode(node: string, disk: MachineDisk): object {
  const cache = { direct: disk.direct, "no-flush": false };
  const common = { "read-only": disk.readOnly, cache };
  return {
    ...{ driver: "raw", "node-name": node, ...common, discard: "unmap" },
    ...(disk.size === undefined ? {} : { size: disk.size }),
    file: { ...protocol(disk.source), ...common, "node-name": `${node}-file`, discard: "unmap" },
  };
}

function protocol(source: DiskSource): object {
  return source.kind === "file"
    ? { driver: "file", filename: source.path, aio: "threads" }
    : { driver: "nfs", server: { type: "inet", host: source.server }, path: source.path, user: 107, group: 107 };
}

/** There are no virtio CD-ROMs: such a disk is an ordinary one that cannot be written. */
const DISK_DEVICES = {
  virtio: { disk: "virtio-blk-pci", cdrom: "virtio-blk-pci" },
  scsi: { disk: "scsi-hd", cdrom: "scsi-cd" },
  sata: { disk: "ide-hd", cdrom: "ide-cd" },
} as const;

function device(node: string, disk: MachineDisk, bus: string): object {
  const driver = DISK_DEVICES[disk.bus][disk.isCdrom ? "cdrom" : "disk"];
  return {
    ...{ driver, id: `device-${disk.name}`, drive: node, ...(disk.bus === "virtio" ? {} : { bus }) },
    ...{ "write-cache": disk.writeThrough ? "off" : "on" },
    ...{ werror: disk.errorPolicy === "enospace" ? "enospc" : disk.errorPolicy },
    ...{ rerror: disk.errorPolicy === "enospace" ? "report" : disk.errorPolicy },
    ...(disk.bootOrder === undefined ? {} : { bootindex: disk.bootOrder }),
    ...(disk.serial === undefined ? {} : { serial: disk.serial }),
  };
}

const NETWORK_DEVICES: Record<string, string> = {
  virtio: "virtio-net-pci",
  e1000: "e1000",
  e1000e: "e1000e",
  rtl8139: "rtl8139",
  ne2k_pci: "ne2k_pci",
  pcnet: "pcnet",
};

function interfaceArguments(network: MachineInterface, index: number): string[] {
  const driver = NETWORK_DEVICES[network.model];
  if (driver === undefined) {
    throw new HypervisorError("INTERFACE_MODEL_UNKNOWN", `no such network interface model: ${network.model}`);
  }
  const forwards = network.forwards.map(
    ({ address, hostPort, guestPort }) => `,hostfwd=tcp:${address}:${hostPort}-:${guestPort}`,
  );
  const mac = network.mac === undefined ? "" : `,mac=${network.mac}`;
  const restricted = network.isolated ? ",restrict=on" : "";
  return [
    "-netdev",
    `user,id=net${index}${restricted}${forwards.join("")}`,
    "-device",
    `${driver},netdev=net${index}${mac}`,
  ];
}

/** In QEMU's option strings a comma is written twice. */
function escapeComma(value: string): string {
  return value.replaceAll(",", ",,");
}
