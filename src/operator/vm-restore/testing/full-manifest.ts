/** A VirtualMachine that uses much of what KubeVirt has, as it was backed up: disks `root` and `data`, a Windows-like set of devices. */
export function fullManifest() {
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: {
      name: "orders-db",
      namespace: "shop",
      labels: { app: "orders-db" },
      annotations: { description: "orders", "kubevirt.io/latest-observed-api-version": "v1" },
    },
    spec: {
      runStrategy: "RerunOnFailure",
      instancetype: { kind: "VirtualMachineInstancetype", name: "large", revisionName: "orders-db-large-1" },
      preference: { name: "windows", revisionName: "orders-db-windows-1" },
      dataVolumeTemplates: [{ metadata: { name: "orders-db-root" }, spec: {} }],
      template: {
        metadata: {
          labels: { tier: "database" },
          annotations: {
            "kubevirt.io/pci-topology-version": "v3",
            "kubevirt.io/pci-interface-slot-count": "4",
            "vm.kubevirt.io/os": "windows2k22",
          },
        },
        spec: {
          architecture: "amd64",
          hostname: "orders",
          evictionStrategy: "LiveMigrate",
          terminationGracePeriodSeconds: 180,
          nodeSelector: { disk: "ssd" },
          accessCredentials: [
            {
              sshPublicKey: {
                source: { secret: { secretName: "ssh-keys" } },
                propagationMethod: { qemuGuestAgent: { users: ["admin"] } },
              },
            },
          ],
          domain: {
            machine: { type: "pc-q35-rhel9.4.0" },
            cpu: {
              cores: 2,
              sockets: 4,
              threads: 1,
              model: "host-model",
              features: [{ name: "vmx", policy: "require" }],
            },
            memory: { guest: "8Gi", hugepages: { pageSize: "2Mi" } },
            clock: {
              utc: {},
              timer: { hpet: { present: false }, hyperv: { present: true }, pit: { tickPolicy: "delay" } },
            },
            features: { acpi: {}, smm: { enabled: true }, hyperv: { relaxed: {}, spinlocks: { spinlocks: 8191 } } },
            firmware: {
              uuid: "5d307ca9-b3ef-428c-8861-06e72d69f223",
              serial: "e4686d2c-6e8d-4335-b8fd-81bee22f4815",
              bootloader: { efi: { secureBoot: true, persistent: true } },
            },
            devices: {
              tpm: { persistent: true },
              rng: {},
              inputs: [{ name: "tablet", bus: "usb", type: "tablet" }],
              gpus: [
                { name: "gpu", deviceName: "nvidia.com/GV100GL", virtualGPUOptions: { display: { enabled: false } } },
              ],
              hostDevices: [{ name: "card", deviceName: "example.com/card" }],
              filesystems: [{ name: "settings", virtiofs: {} }],
              disks: [
                { name: "root", disk: { bus: "virtio", pciAddress: "0000:07:00.0" }, bootOrder: 1, serial: "ROOT1" },
                { name: "data", disk: { bus: "scsi" }, dedicatedIOThread: true, cache: "writeback" },
                { name: "drivers", cdrom: { bus: "sata" } },
                { name: "init", disk: { bus: "virtio" } },
              ],
              interfaces: [
                { name: "default", masquerade: {}, model: "virtio", ports: [{ port: 5432 }] },
                { name: "lan", bridge: {}, macAddress: "02:5a:17:00:00:22", acpiIndex: 2 },
              ],
            },
          },
          networks: [
            { name: "default", pod: {} },
            { name: "lan", multus: { networkName: "infra/lan" } },
          ],
          volumes: [
            { name: "root", dataVolume: { name: "orders-db-root" } },
            { name: "data", persistentVolumeClaim: { claimName: "orders-db-data", hotpluggable: true } },
            { name: "drivers", containerDisk: { image: "registry.example.com/virtio:1", imagePullSecret: "pull" } },
            { name: "init", cloudInitNoCloud: { secretRef: { name: "init" }, networkData: "version: 2\n" } },
            { name: "settings", configMap: { name: "settings" } },
            { name: "dump", memoryDump: { claimName: "dump" } },
          ],
        },
      },
    },
  };
}

/** What KubeVirt wrote down of it while it ran. */
export const RUNNING_INSTANCE = {
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachineInstance",
  metadata: { name: "orders-db" },
  spec: { architecture: "amd64", domain: { machine: { type: "pc-q35-9.2" }, firmware: { serial: "from-instance" } } },
  status: {
    interfaces: [
      { name: "default", mac: "52:54:00:aa:bb:01" },
      { name: "lan", mac: "02:5a:17:00:00:22" },
    ],
  },
};

/** The revision that `fullManifest` pins. */
export function revision(name: string, kind: string, spec: object) {
  return {
    apiVersion: "apps/v1",
    kind: "ControllerRevision",
    metadata: { name },
    revision: 1,
    data: { apiVersion: "instancetype.kubevirt.io/v1beta1", kind, metadata: { name: name.split("-").at(-2) }, spec },
  };
}

/** The network that it is in beside the pod network. */
export const LAN = {
  apiVersion: "k8s.cni.cncf.io/v1",
  kind: "NetworkAttachmentDefinition",
  metadata: { name: "lan", namespace: "infra" },
};
