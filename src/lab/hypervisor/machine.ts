/** A virtual machine as QEMU's command line sees it: plain values, made from a VirtualMachineInstance and its claims. */
export interface MachineSpec {
  readonly name: string;
  readonly chipset: "q35" | "pc";
  readonly accelerator: Accelerator;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly firmware: { readonly uuid?: string; readonly serial?: string };
  readonly disks: readonly MachineDisk[];
  readonly interfaces: readonly MachineInterface[];
  readonly hasRandomSource: boolean;
}

export type Accelerator = "kvm" | "tcg";
export type DiskBus = "virtio" | "scsi" | "sata";
export type ErrorPolicy = "stop" | "report" | "ignore" | "enospace";

export interface MachineDisk {
  /** The volume's name: at most 63 characters, a DNS label. */
  readonly name: string;
  readonly bus: DiskBus;
  readonly source: DiskSource;
  /** Bytes that the guest sees, where the source may be larger; by default all of it. */
  readonly size?: number;
  readonly isCdrom: boolean;
  readonly readOnly: boolean;
  /** O_DIRECT, as KubeVirt's `cache: none`. */
  readonly direct: boolean;
  /** Every write is flushed before it is acknowledged. */
  readonly writeThrough: boolean;
  readonly errorPolicy: ErrorPolicy;
  readonly bootOrder: number | undefined;
  readonly serial: string | undefined;
}

/** A raw image: a file or block device of this machine, or a file of an NFS export read by QEMU itself. */
export type DiskSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "nfs"; readonly server: string; readonly path: string };

export interface MachineInterface {
  readonly model: string;
  readonly mac: string | undefined;
  /** Nothing outside of the machine can be reached. */
  readonly isolated: boolean;
  /** TCP ports of a host address that lead to the guest. Host port 0 lets the system choose. */
  readonly forwards: readonly { readonly address: string; readonly hostPort: number; readonly guestPort: number }[];
}

/** Where a running machine is reached; UNIX sockets, whose paths must stay under 108 bytes. */
export interface MachinePaths {
  readonly qmp: string;
  readonly agent: string;
  /** The serial console's output, appended to. */
  readonly console: string;
}
