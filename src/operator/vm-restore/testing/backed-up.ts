// The machine that was backed up.

export const DISK_SIZE = 64 * 2 ** 20;

/** A disk of it, as an inspection finds it. */
export const diskOf = (name: string) => ({ name, path: `/disks/${name}.img`, format: "raw" as const, size: DISK_SIZE });

/**
 * @param disks names of its volumes
 * @param bus how they are attached; null says nothing of it
 * @param hasTpm whether it has one that keeps its state
 */
export function manifest(disks: readonly string[] = ["root"], bus: string | null = "virtio", hasTpm = false) {
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name: "orders-db", labels: { app: "orders-db" } },
    spec: {
      runStrategy: "Always",
      template: {
        metadata: { labels: {} },
        spec: {
          domain: {
            firmware: { uuid: "5d307ca9-b3ef-428c-8861-06e72d69f223" },
            devices: {
              ...(hasTpm ? { tpm: { persistent: true } } : {}),
              disks: disks.map((name) => ({ name, disk: bus === null ? {} : { bus } })),
              interfaces: [{ name: "default", masquerade: {}, macAddress: "02:5a:17:00:00:21" }],
            },
          },
          networks: [{ name: "default", pod: {} }],
          volumes: disks.map((name) => ({ name, persistentVolumeClaim: { claimName: `orders-db-${name}` } })),
        },
      },
    },
  };
}
