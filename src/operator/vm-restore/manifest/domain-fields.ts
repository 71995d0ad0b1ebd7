import { each, type Fields, fields, flag, list, map, marker, quantity, text, whole } from "./shape.ts";

const name = text(63);
const enabled = fields({ enabled: flag });
/** `0000:03:00.0` */
const pciAddress = text(16, /^[0-9a-fA-F:.]+$/);
const macAddress = text(17, /^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/);

/** `name` or `namespace/name`. */
const NETWORK_NAME = /^([a-z0-9]([-a-z0-9]*[a-z0-9])?\/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

const hyperv = fields({
  ...each(
    enabled,
    ...["evmcs", "frequencies", "ipi", "reenlightenment", "relaxed", "reset", "runtime", "synic", "vapic", "vpindex"],
  ),
  spinlocks: fields({ enabled: flag, spinlocks: whole }),
  synictimer: fields({ enabled: flag, direct: enabled }),
  tlbflush: fields({ enabled: flag, direct: enabled, extended: enabled }),
  vendorid: fields({ enabled: flag, vendorid: text(12) }),
});
const apic = fields({ enabled: flag, endOfInterrupt: flag });
const hidden = fields({ hidden: flag });
const timer = fields({
  ...each(fields({ present: flag, tickPolicy: text(16) }), "hpet", "pit"),
  ...each(fields({ present: flag }), "hyperv", "kvm"),
  rtc: fields({ present: flag, tickPolicy: text(16), track: text(16) }),
});
const utc = fields({ offsetSeconds: whole });
const launchSecurity = fields({
  sev: fields({
    attestation: marker,
    dhCert: text(65536),
    session: text(65536),
    policy: fields({ encryptedState: flag }),
  }),
  snp: marker,
  tdx: marker,
});
const ioThreads = fields({ supplementalPoolThreadCount: whole });
const display = fields({ display: fields({ enabled: flag, ramFB: enabled }) });
/** Of a kind that the cluster's administrator permits in KubeVirt's configuration: names, never a host's addresses. */
const hostDevice: Fields = { name, deviceName: text(), tag: text(63), claimName: text(63), requestName: text(63) };
const gpu = fields({ ...hostDevice, virtualGPUOptions: display });
const blockSize = fields({
  custom: fields({ logical: whole, physical: whole, discardGranularity: whole }),
  matchVolume: enabled,
});
const tpm = fields({ enabled: flag, persistent: flag });
const efi = fields({ persistent: flag, secureBoot: flag });
const hugepages = fields({ pageSize: text(16) });
const numa = fields({ guestMappingPassthrough: marker });
const realtime = fields({ mask: text(1024) });

/** `spec.domain`, but for devices and firmware. */
export const DOMAIN_FIELDS: Fields = {
  machine: fields({ type: text(63) }),
  cpu: fields({
    ...each(whole, "cores", "sockets", "threads", "maxSockets"),
    model: text(63),
    features: list(fields({ name: text(63), policy: text(16) }), 256),
    ...each(flag, "dedicatedCpuPlacement", "isolateEmulatorThread"),
    numa,
    realtime,
  }),
  memory: fields({
    guest: quantity,
    maxGuest: quantity,
    hugepages,
    reservedOverhead: fields({ addedOverhead: quantity, memLock: text(32) }),
  }),
  resources: fields({ requests: map(quantity), limits: map(quantity), overcommitGuestOverhead: flag }),
  clock: fields({ timezone: text(64), utc, timer }),
  features: fields({
    ...each(enabled, "acpi", "smm", "pvspinlock", "hypervPassthrough"),
    apic,
    hyperv,
    kvm: hidden,
  }),
  chassis: fields(each(text(256), "asset", "manufacturer", "serial", "sku", "version")),
  ioThreadsPolicy: text(32),
  ioThreads,
  launchSecurity,
  rebootPolicy: text(32),
};

export const FIRMWARE_FIELDS: Fields = {
  uuid: text(36, /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/),
  serial: text(256),
  bootloader: fields({ bios: fields({ useSerial: flag }), efi }),
  /** Names of the machine's own volumes. */
  acpi: fields({ slicNameRef: name, msdmNameRef: name }),
  kernelBoot: fields({
    kernelArgs: text(4096),
    container: fields({
      image: text(1024),
      imagePullPolicy: text(16),
      imagePullSecret: text(253, /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/),
      kernelPath: text(1024),
      initrdPath: text(1024),
    }),
  }),
};

/** `spec.domain.devices`, but for disks, interfaces and filesystems, which belong to volumes and networks. */
export const DEVICE_FIELDS: Fields = {
  ...each(
    flag,
    "autoattachGraphicsDevice",
    "autoattachInputDevice",
    "autoattachMemBalloon",
    "autoattachPodInterface",
    "autoattachSerialConsole",
    "autoattachVSOCK",
    "blockMultiQueue",
    "disableHotplug",
    "logSerialConsole",
    "networkInterfaceMultiqueue",
    "useVirtioTransitional",
  ),
  ...each(marker, "rng", "clientPassthrough", "downwardMetrics"),
  tpm,
  watchdog: fields({ name, i6300esb: fields({ action: text(16) }), diag288: fields({ action: text(16) }) }),
  inputs: list(fields({ name, bus: text(16), type: text(16) })),
  sound: fields({ name, model: text(16) }),
  video: fields({ type: text(16) }),
  panicDevices: list(fields({ model: text(16) })),
  gpus: list(gpu),
  hostDevices: list(fields(hostDevice)),
};

/** One of `domain.devices.disks`. The bus is kept by the one of disk, cdrom and lun that is there. */
export const DISK_FIELDS: Fields = {
  name,
  serial: text(256),
  bootOrder: whole,
  dedicatedIOThread: flag,
  blockSize,
  tag: text(63),
  io: text(16),
  cache: text(16),
  errorPolicy: text(16),
  disk: fields({ bus: text(16), pciAddress, readonly: flag }),
  cdrom: fields({ bus: text(16), readonly: flag, tray: text(16) }),
};

export const INTERFACE_FIELDS: Fields = {
  name,
  model: text(32),
  macAddress,
  pciAddress,
  acpiIndex: whole,
  bootOrder: whole,
  tag: text(63),
  state: text(16),
  ...each(marker, "bridge", "masquerade", "sriov", "macvtap", "passt", "passtBinding", "slirp"),
  binding: fields({ name: text(63) }),
  ports: list(fields({ name: text(63), port: whole, protocol: text(8) })),
  portRanges: list(fields({ start: whole, end: whole, protocol: text(8) })),
  dhcpOptions: fields({
    bootFileName: text(1024),
    tftpServerName: text(),
    ntpServers: list(text(64)),
    privateOptions: list(fields({ option: whole, value: text(1024) })),
  }),
};

export const NETWORK_FIELDS: Fields = {
  name,
  pod: fields({ vmNetworkCIDR: text(64), vmIPv6NetworkCIDR: text(64) }),
  multus: fields({ networkName: text(317, NETWORK_NAME), default: flag }),
  resourceClaim: fields({ claimName: text(63), requestName: text(63) }),
};

/** An instancetype's or a preference's annotations become the machine's, and are its launcher pod's orders: never taken over. */
export const INSTANCETYPE_FIELDS: Fields = {
  cpu: fields({
    guest: whole,
    maxSockets: whole,
    model: text(63),
    ...each(flag, "dedicatedCPUPlacement", "isolateEmulatorThread"),
    numa,
    realtime,
  }),
  memory: fields({ guest: quantity, maxGuest: quantity, overcommitPercent: whole, hugepages }),
  gpus: list(gpu),
  hostDevices: list(fields(hostDevice)),
  ioThreads,
  ioThreadsPolicy: text(32),
  launchSecurity,
  nodeSelector: map(text(63)),
};

export const PREFERENCE_FIELDS: Fields = {
  clock: fields({ preferredClockOffset: fields({ timezone: text(64), utc }), preferredTimer: timer }),
  cpu: fields({
    preferredCPUFeatures: list(fields({ name: text(63), policy: text(16) }), 256),
    preferredCPUTopology: text(32),
    spreadOptions: fields({ across: text(32), ratio: whole }),
  }),
  devices: fields({
    ...each(
      flag,
      "preferredAutoattachGraphicsDevice",
      "preferredAutoattachInputDevice",
      "preferredAutoattachMemBalloon",
      "preferredAutoattachPodInterface",
      "preferredAutoattachSerialConsole",
      "preferredBlockMultiQueue",
      "preferredDisableHotplug",
      "preferredDiskDedicatedIoThread",
      "preferredNetworkInterfaceMultiQueue",
      "preferredUseVirtioTransitional",
    ),
    ...each(
      text(32),
      "preferredCdromBus",
      "preferredDiskBus",
      "preferredDiskCache",
      "preferredDiskIO",
      "preferredInputBus",
      "preferredInputType",
      "preferredInterfaceModel",
      "preferredLunBus",
      "preferredPanicDeviceModel",
      "preferredSoundModel",
      "preferredVideoType",
    ),
    ...each(marker, "preferredInterfaceMasquerade", "preferredRng"),
    preferredDiskBlockSize: blockSize,
    preferredTPM: tpm,
    preferredVirtualGPUOptions: display,
  }),
  features: fields({
    ...each(enabled, "preferredAcpi", "preferredPvspinlock", "preferredSmm"),
    preferredApic: apic,
    preferredHyperv: hyperv,
    preferredKvm: hidden,
  }),
  firmware: fields({
    preferredEfi: efi,
    ...each(flag, "preferredUseBios", "preferredUseBiosSerial", "preferredUseEfi", "preferredUseSecureBoot"),
  }),
  machine: fields({ preferredMachineType: text(63) }),
  preferSpreadSocketToCoreRatio: whole,
  preferredArchitecture: text(32),
  preferredLaunchSecurity: launchSecurity,
  preferredSubdomain: text(63),
  preferredTerminationGracePeriodSeconds: whole,
  requirements: fields({
    architecture: text(32),
    cpu: fields({ guest: whole }),
    memory: fields({ guest: quantity }),
  }),
  volumes: fields({ preferredStorageClassName: text() }),
};
