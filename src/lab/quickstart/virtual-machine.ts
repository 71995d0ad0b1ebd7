/** The name of the machine that the quickstart loses and brings back. */
export const VM_NAME = "orders-db";

/** The VirtualMachine as it stood in the cluster when its backup was made: KubeVirt v1, one virtio disk. */
export function ordersDatabase(): object {
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name: VM_NAME, labels: { app: VM_NAME } },
    spec: {
      runStrategy: "Always",
      template: {
        metadata: { labels: { "kubevirt.io/domain": VM_NAME } },
        spec: {
          architecture: "amd64",
          terminationGracePeriodSeconds: 60,
          domain: {
            machine: { type: "q35" },
            cpu: { cores: 1 },
            memory: { guest: "768Mi" },
            firmware: { uuid: "5d307ca9-b3ef-428c-8861-06e72d69f223", serial: "orders-db-0001" },
            devices: {
              disks: [{ name: "root", disk: { bus: "virtio" }, bootOrder: 1 }],
              interfaces: [{ name: "default", masquerade: {}, model: "virtio", macAddress: "02:5a:17:00:00:21" }],
              rng: {},
            },
          },
          networks: [{ name: "default", pod: {} }],
          volumes: [{ name: "root", persistentVolumeClaim: { claimName: "orders-db-root" } }],
        },
      },
    },
  };
}
