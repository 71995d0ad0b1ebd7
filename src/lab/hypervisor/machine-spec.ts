import { createHash } from "node:crypto";
import { parseQuantity } from "../../api/quantity.ts";
import { HypervisorError } from "./errors.ts";
import type { Disk, Interface, VirtualMachineInstance } from "./kinds.ts";
import type {
  Accelerator,
  DiskBus,
  DiskSource,
  ErrorPolicy,
  MachineDisk,
  MachineInterface,
  MachineSpec,
} from "./machine.ts";

/** Ports of the guest that its launcher pod's address offers where the interface lists none. */
const DEFAULT_PORTS = [22, 80, 443];
const DEFAULT_MEMORY = 512 * 2 ** 20;
const BUSES: readonly string[] = ["virtio", "scsi", "sata"];
const POLICIES: readonly string[] = ["stop", "report", "ignore", "enospace"];

/** What a machine runs on, found out before. */
export interface Surroundings {
  readonly accelerator: Accelerator;
  readonly podIP: string;
  /** Whether ports below 1024 can be bound on the pod's address. */
  readonly lowPorts: boolean;
  /** Where each volume lies, by the volume's name. */
  readonly sources: ReadonlyMap<string, ResolvedSource>;
}

export interface ResolvedSource {
  readonly source: DiskSource;
  /** Whether it can be opened with O_DIRECT. */
  readonly canBypassCache: boolean;
}

/** The manifest asks for something that the lab does not have. */
export class MachineRefusedError extends HypervisorError {
  constructor(message: string) {
    super("LAB_MACHINE_REFUSED", message, { hint: "The lab runs a part of what KubeVirt does; see docs." });
  }
}

/** QEMU's view of an instance. Refuses what would silently be another machine than the manifest says. */
export function machineSpecOf(instance: VirtualMachineInstance, around: Surroundings): MachineSpec {
  const { domain = {} } = instance.spec;
  const { devices = {}, cpu = {}, firmware = {} } = domain;
  if (firmware.bootloader?.efi !== undefined) throw new MachineRefusedError("the lab boots by BIOS only, not by EFI");
  const machine = domain.machine?.type ?? "q35";
  return {
    name: `${instance.metadata.namespace}_${instance.metadata.name}`,
    chipset: machine === "pc" || machine.startsWith("pc-i440fx") ? "pc" : "q35",
    accelerator: around.accelerator,
    cpus: (cpu.cores ?? 1) * (cpu.sockets ?? 1) * (cpu.threads ?? 1),
    memoryBytes: memoryOf(instance),
    firmware: {
      ...(firmware.uuid === undefined ? {} : { uuid: firmware.uuid }),
      ...(firmware.serial === undefined ? {} : { serial: firmware.serial }),
    },
    disks: (devices.disks ?? []).map((disk) => diskOf(disk, around)),
    interfaces: interfacesOf(instance).map((network) => machineInterface(network, instance, around)),
    hasRandomSource: devices.rng !== undefined,
  };
}

function memoryOf({ spec }: VirtualMachineInstance): number {
  const { memory, resources } = spec.domain ?? {};
  const text = memory?.guest ?? resources?.requests?.memory ?? resources?.limits?.memory;
  const bytes = text === undefined ? DEFAULT_MEMORY : parseQuantity(text);
  if (bytes === undefined) throw new MachineRefusedError(`no amount of memory: ${text}`);
  return bytes;
}

function diskOf(disk: Disk, around: Surroundings): MachineDisk {
  const target = disk.disk ?? disk.cdrom;
  if (target === undefined && (disk.lun !== undefined || disk.floppy !== undefined)) {
    throw new MachineRefusedError(`disk ${disk.name} is a LUN or a floppy, which the lab does not have`);
  }
  const bus = target?.bus ?? "sata";
  const resolved = around.sources.get(disk.name);
  if (resolved === undefined) throw new MachineRefusedError(`there is no volume ${disk.name}`);
  if (!BUSES.includes(bus)) throw new MachineRefusedError(`disk ${disk.name}: the lab has no ${bus} bus`);
  const errorPolicy = disk.errorPolicy ?? "stop";
  if (!POLICIES.includes(errorPolicy))
    throw new MachineRefusedError(`disk ${disk.name}: no error policy ${errorPolicy}`);
  return {
    name: disk.name,
    bus: bus as DiskBus,
    source: resolved.source,
    isCdrom: disk.cdrom !== undefined,
    readOnly: disk.disk?.readonly === true || disk.cdrom !== undefined,
    direct: disk.cache === undefined ? resolved.canBypassCache : disk.cache === "none",
    writeThrough: disk.cache === "writethrough",
    errorPolicy: errorPolicy as ErrorPolicy,
    bootOrder: disk.bootOrder,
    serial: disk.serial,
  };
}

/** The interfaces of a manifest; one on the pod network where it names none and does not forbid it. */
export function interfacesOf({ spec }: VirtualMachineInstance): Interface[] {
  const { interfaces = [], autoattachPodInterface } = spec.domain?.devices ?? {};
  if (interfaces.length > 0 || autoattachPodInterface === false) return interfaces;
  return [{ name: "default", masquerade: {} }];
}

/** Only the pod network leads anywhere; an interface of another network is there, without a connection. */
function machineInterface(
  network: Interface,
  instance: VirtualMachineInstance,
  around: Surroundings,
): MachineInterface {
  const isPodNetwork = onPodNetwork(network, instance);
  const ports = network.ports?.map(({ port }) => port) ?? DEFAULT_PORTS;
  const usable = ports.filter((port) => around.lowPorts || port >= 1024);
  return {
    model: network.model ?? "virtio",
    mac: macOf(network, instance),
    isolated: !isPodNetwork,
    forwards: isPodNetwork ? usable.map((port) => ({ address: around.podIP, hostPort: port, guestPort: port })) : [],
  };
}

export function onPodNetwork({ name }: Interface, { spec }: VirtualMachineInstance): boolean {
  const network = spec.networks?.find((candidate) => candidate.name === name);
  return network === undefined || network.pod !== undefined;
}

/** The manifest's, or one that is the same at every start of this instance. */
export function macOf({ macAddress, name }: Interface, { metadata }: VirtualMachineInstance): string {
  if (macAddress !== undefined && macAddress !== "") return macAddress.replaceAll("-", ":");
  const bytes = createHash("sha256").update(`${metadata.uid}/${name}`).digest();
  return ["02", ...[...bytes.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, "0"))].join(":");
}
