import {
  INSTANCES,
  KUBEVIRTS,
  MIGRATIONS,
  NODES,
  PODS,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  type VirtualMachineInstance,
  type VirtualMachineVolume,
} from "../../kinds.ts";
import type { ResourceType } from "../../runtime/objects.ts";
import type { FakeCluster } from "../../runtime/testing/fake-cluster.ts";

type Condition = NonNullable<NonNullable<VirtualMachine["status"]>["conditions"]>[number];

const LABEL = "kubevirt.io/volume-update-migration";

/** KubeVirt's volume migration, a step at a time, as simple as it may be. */
export class VolumeMigrations {
  /** Reasons for which the next attempts fail, in this order. */
  failures: string[] = [];
  /** Attempts run until this is false. */
  stalls = false;
  /** The second launcher pods do not start. */
  targetWaits = false;
  /** The instance ends in the very moment in which its guest has arrived: KubeVirt never says that it succeeded. */
  losesSource = false;
  /** Why KubeVirt does not migrate at all. */
  refusal: string | undefined;
  attempts = 0;
  readonly #cluster: FakeCluster;

  constructor(cluster: FakeCluster) {
    this.#cluster = cluster;
  }

  /** Makes the cluster one in which it can be done. */
  install(
    change: { configuration?: object; workloadUpdateMethods?: string[]; phase?: string; version?: string } = {},
  ): void {
    this.#cluster.put(KUBEVIRTS, {
      apiVersion: "kubevirt.io/v1",
      kind: "KubeVirt",
      metadata: { name: "kubevirt", namespace: "kubevirt" },
      spec: {
        configuration: change.configuration ?? {},
        workloadUpdateStrategy: { workloadUpdateMethods: change.workloadUpdateMethods ?? ["LiveMigrate"] },
      },
      status: { phase: change.phase ?? "Deployed", observedKubeVirtVersion: change.version ?? "v1.9.0" },
    });
    for (const name of ["node-1", "node-2"])
      this.#cluster.put(NODES, {
        apiVersion: "v1",
        kind: "Node",
        metadata: { name, labels: { "kubevirt.io/schedulable": "true" } },
        status: { conditions: [{ type: "Ready", status: "True" }] },
      });
  }

  /** Whether a machine may be started. */
  maySetOut(machine: VirtualMachine): boolean {
    return !(machine.status?.conditions ?? []).some(({ type }) => type === "ManualRecoveryRequired");
  }

  step(): void {
    for (const { metadata } of this.#cluster.all(VIRTUAL_MACHINES)) {
      const { name, namespace = "" } = metadata;
      const machine = this.#cluster.peek(VIRTUAL_MACHINES, namespace, name);
      const instance = this.#cluster.peek(INSTANCES, namespace, name);
      if (machine === undefined) continue;
      if (instance === undefined || instance.metadata.deletionTimestamp !== undefined || isFinal(instance))
        this.#ended(machine);
      else this.#go(machine, instance);
    }
  }

  #go(machine: VirtualMachine, instance: VirtualMachineInstance): void {
    const changed = changedVolumes(machine, instance);
    const isMoving = instance.status?.migratedVolumes !== undefined;
    if (machine.spec?.updateVolumesStrategy !== "Migration") this.#mark(machine, "VolumesChange", undefined);
    if (changed.length === 0) {
      if (isMoving) this.#advance(machine, instance);
      return;
    }
    if (isMoving) {
      // Once the guest is there, nothing calls it off any more.
      if (instance.status?.migrationState?.targetNodeDomainReadyTimestamp !== undefined)
        this.#advance(machine, instance);
      else if (isServed(machine)) this.#cancel(machine, instance);
      else this.#mark(machine, "Failure", "The volume can only be reverted to the previous version during the update");
      return;
    }
    if (machine.spec?.updateVolumesStrategy !== "Migration" || this.refusal !== undefined) {
      this.#mark(machine, "RestartRequired", this.refusal ?? "a non-live-updatable field was changed");
      return;
    }
    this.#changeInstance(instance, (now) => {
      now.spec = { ...now.spec, volumes: machine.spec?.template?.spec?.volumes ?? [] };
      now.status = { ...now.status, migratedVolumes: changed.map(({ name }) => ({ volumeName: name })) };
      setCondition(now, "VolumesChange", "True");
    });
    this.#mark(machine, "VolumesChange", "migrate volumes");
  }

  #advance(machine: VirtualMachine, instance: VirtualMachineInstance): void {
    const { name, namespace = "" } = instance.metadata;
    const [open] = this.#cluster
      .all(MIGRATIONS)
      .filter(({ status }) => status?.phase !== "Failed" && status?.phase !== "Succeeded");
    if (open === undefined) {
      const migration = `kubevirt-workload-update-${this.attempts++}`;
      const metadata = { name: migration, namespace, labels: { [LABEL]: name } };
      this.#put(MIGRATIONS, {
        kind: "VirtualMachineInstanceMigration",
        metadata,
        spec: { vmiName: name },
        status: { phase: "Pending" },
      });
      return;
    }
    const set = (status: object): void =>
      this.#cluster.change(MIGRATIONS, namespace, open.metadata.name, (migration) => {
        migration.status = { ...migration.status, ...status };
      });
    const pod = `virt-launcher-${name}-${open.metadata.name}`;
    const podIs = (phase: string): void =>
      this.#put(PODS, {
        kind: "Pod",
        metadata: {
          name: pod,
          namespace,
          labels: { ...instance.metadata.labels, "kubevirt.io": "virt-launcher" },
          ownerReferences: [owner(instance)],
        },
        spec: { volumes: instance.spec?.volumes ?? [] },
        status: { phase },
      });
    const state = instance.status?.migrationState;
    const isPreparing = open.status?.phase === "Pending" || open.status?.phase === "Scheduling";
    if (isPreparing && this.targetWaits) {
      if (this.#cluster.peek(PODS, namespace, pod) === undefined) podIs("Pending");
      set({ phase: "Scheduling" });
      return;
    }
    if (isPreparing) {
      podIs("Running");
      set({ phase: "Running" });
      this.#changeInstance(instance, (now) => {
        now.status = { ...now.status, migrationState: { migrationUid: open.metadata.uid ?? "", targetPod: pod } };
      });
      return;
    }
    const hasArrived = state?.targetNodeDomainReadyTimestamp !== undefined;
    const failure = hasArrived ? undefined : this.failures.shift();
    if (failure !== undefined) {
      podIs("Failed");
      set({ phase: "Failed", migrationState: { failureReason: failure } });
      this.#changeInstance(instance, (now) => {
        now.status = {
          ...now.status,
          migrationState: { ...state, failed: true, completed: true, failureReason: failure },
        };
      });
      return;
    }
    if (this.stalls) return;
    if (!hasArrived) {
      this.#changeInstance(instance, (now) => {
        const targetNodeDomainReadyTimestamp = "2026-01-01T00:00:00Z";
        now.status = { ...now.status, migrationState: { ...state, targetNodeDomainReadyTimestamp } };
        if (this.losesSource) now.status = { ...now.status, phase: "Failed" };
      });
      if (this.losesSource) {
        set({ phase: "Failed" });
        podIs("Failed");
        this.#cluster.erase(PODS, namespace, `virt-launcher-${name}`);
        this.#cluster.erase(INSTANCES, namespace, name);
        this.losesSource = false;
      }
      return;
    }
    set({ phase: "Succeeded" });
    this.#changeInstance(instance, (now) => {
      const { migratedVolumes: _, ...status } = now.status ?? {};
      now.status = { ...status, migrationState: { ...state, completed: true } };
      setCondition(now, "VolumesChange", undefined);
    });
    this.#mark(machine, "VolumesChange", undefined);
    this.#cluster.change(PODS, namespace, `virt-launcher-${name}`, (source) => {
      source.status = { phase: "Succeeded" };
    });
  }

  #cancel(machine: VirtualMachine, instance: VirtualMachineInstance): void {
    this.#changeInstance(instance, (now) => {
      const { migratedVolumes: _, ...status } = now.status ?? {};
      now.status = { ...status, migrationState: { ...status.migrationState, failed: true, completed: true } };
      now.spec = { ...now.spec, volumes: machine.spec?.template?.spec?.volumes ?? [] };
      setCondition(now, "VolumesChange", "False");
    });
    this.#mark(machine, "VolumesChange", undefined);
    for (const { metadata, status } of this.#cluster.all(MIGRATIONS))
      if (status?.phase !== "Failed" && status?.phase !== "Succeeded")
        this.#cluster.erase(MIGRATIONS, metadata.namespace, metadata.name);
    for (const { metadata } of this.#cluster.all(PODS))
      if (metadata.name.includes("kubevirt-workload-update")) this.#end(metadata.namespace, metadata.name);
  }

  #end(namespace: string | undefined, name: string): void {
    this.#cluster.change(PODS, namespace, name, (pod) => {
      pod.status = { phase: "Failed" };
    });
  }

  /** Its instance is gone or going. */
  #ended(machine: VirtualMachine): void {
    const { name, namespace } = machine.metadata;
    for (const { metadata } of this.#cluster.all(PODS))
      if (metadata.name.startsWith(`virt-launcher-${name}-`)) this.#end(namespace, metadata.name);
    for (const migration of this.#cluster.all(MIGRATIONS))
      if (migration.spec?.vmiName === name) this.#cluster.erase(MIGRATIONS, namespace, migration.metadata.name);
    const isReverted = machine.spec?.updateVolumesStrategy !== "Migration" || isServed(machine);
    if (isReverted) {
      this.#mark(machine, "VolumesChange", undefined);
      this.#mark(machine, "ManualRecoveryRequired", undefined);
    } else if (machine.status?.conditions?.some(({ type }) => type === "VolumesChange"))
      this.#mark(machine, "ManualRecoveryRequired", "VMI was removed or was final during the volume migration");
  }

  #mark(machine: VirtualMachine, type: string, message: string | undefined): void {
    const { name, namespace } = machine.metadata;
    this.#cluster.change(VIRTUAL_MACHINES, namespace, name, (now) => {
      const others = (now.status?.conditions ?? []).filter((condition) => condition.type !== type);
      const conditions: Condition[] = message === undefined ? others : [...others, { type, status: "True", message }];
      now.status = { ...now.status, conditions };
    });
  }

  #changeInstance({ metadata }: VirtualMachineInstance, change: (instance: VirtualMachineInstance) => void): void {
    this.#cluster.change(INSTANCES, metadata.namespace, metadata.name, change);
  }

  #put(type: ResourceType, object: object): void {
    this.#cluster.put(type, { apiVersion: type.apiVersion, ...object });
  }
}

function owner({ metadata }: VirtualMachineInstance): object {
  return { uid: metadata.uid ?? "", kind: "VirtualMachineInstance", name: metadata.name };
}

function isFinal({ status }: VirtualMachineInstance): boolean {
  return status?.phase === "Succeeded" || status?.phase === "Failed";
}

function isServed({ spec }: VirtualMachine): boolean {
  return (spec?.template?.spec?.volumes ?? []).every(
    ({ persistentVolumeClaim: claim }) => claim?.claimName.endsWith("-restoring") ?? true,
  );
}

function changedVolumes(machine: VirtualMachine, instance: VirtualMachineInstance): VirtualMachineVolume[] {
  const before = new Map(
    instance.spec?.volumes?.map(({ name, persistentVolumeClaim: claim }) => [name, claim?.claimName]),
  );
  return (machine.spec?.template?.spec?.volumes ?? []).filter(
    ({ name, persistentVolumeClaim: claim }) =>
      claim !== undefined && before.has(name) && before.get(name) !== claim.claimName,
  );
}

function setCondition(instance: VirtualMachineInstance, type: string, status: string | undefined): void {
  const others = (instance.status?.conditions ?? []).filter((condition) => condition.type !== type);
  const conditions = status === undefined ? others : [...others, { type, status }];
  instance.status = { ...instance.status, conditions };
}
