import {
  CLAIMS,
  INSTANCES,
  PODS,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  type VirtualMachineVolume,
  VOLUMES,
} from "../../kinds.ts";
import { at } from "../manifest/shape.ts";
import type { World } from "./world.ts";

/** KubeVirt, as far as it starts and ends machines. */
export class ModelMachines {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  run(): void {
    for (const instance of this.#world.cluster.all(INSTANCES)) {
      const machine = this.#world.cluster.peek(VIRTUAL_MACHINES, instance.metadata.namespace, instance.metadata.name);
      if (this.#isWanted(machine, true) && instance.metadata.deletionTimestamp === undefined) continue;
      this.#world.cluster.change(INSTANCES, instance.metadata.namespace, instance.metadata.name, (ending) => {
        ending.status = { ...ending.status, phase: ending.status?.phase === "Failed" ? "Failed" : "Succeeded" };
      });
      this.#world.cluster.erase(INSTANCES, instance.metadata.namespace, instance.metadata.name);
      this.#world.cluster.erase(PODS, instance.metadata.namespace, `virt-launcher-${instance.metadata.name}`);
    }
    for (const machine of this.#world.cluster.all(VIRTUAL_MACHINES)) {
      const isThere = this.#world.cluster
        .all(INSTANCES)
        .some(
          ({ metadata: { name, namespace } }) =>
            name === machine.metadata.name && namespace === machine.metadata.namespace,
        );
      if (!this.#isWanted(machine, isThere) || !this.#world.volumeMigrations.maySetOut(machine)) continue;
      const { name, namespace = "", labels = {} } = machine.metadata;
      const volumes = machine.spec?.template?.spec?.volumes ?? [];
      if (this.#world.cluster.peek(INSTANCES, namespace, name) === undefined) {
        this.#checkServed(volumes);
        if (machine.spec?.runStrategy === "Manual") this.#world.startRequested = false;
        this.#world.cluster.put(INSTANCES, {
          apiVersion: "kubevirt.io/v1",
          kind: "VirtualMachineInstance",
          metadata: { name, namespace, labels },
          spec: { volumes },
        });
        this.#findState(machine);
      }
      this.#world.cluster.change(INSTANCES, namespace, name, (instance) => {
        const disks = [{ name: "root", disk: { bus: this.#world.instanceBus ?? "sata" } }];
        if (this.#world.instanceBus !== undefined) instance.spec = { ...instance.spec, domain: { devices: { disks } } };
        if (instance.metadata.deletionTimestamp !== undefined) return;
        const others = (instance.status?.conditions ?? []).filter(({ type }) => type !== "AgentConnected");
        const conditions = this.#world.guestReady ? [...others, { type: "AgentConnected", status: "True" }] : others;
        const hasEnded = this.#world.poweredOff && machine.spec?.runStrategy !== "Always";
        const phase = hasEnded ? "Succeeded" : this.#world.launcherWaits ? "Scheduling" : "Running";
        instance.status = { ...instance.status, phase, nodeName: "node-1", conditions };
      });
      const phase = this.#world.launcherWaits ? "Pending" : "Running";
      const instance = this.#world.cluster.peek(INSTANCES, namespace, name);
      const { completed, failed } = instance?.status?.migrationState ?? {};
      // One that was migrated runs in another pod.
      const isHere = completed !== true || failed === true;
      if (instance !== undefined && instance.metadata.deletionTimestamp === undefined && isHere) {
        this.#world.pods.put(
          `virt-launcher-${name}`,
          instance,
          { "kubevirt.io": "virt-launcher" },
          { phase },
          { volumes: volumes.map(podVolume) },
        );
        this.#world.cluster.change(PODS, namespace, `virt-launcher-${name}`, (pod) => {
          if (pod.status?.phase === "Pending") pod.status = { ...pod.status, phase };
        });
      }
    }
  }

  #isWanted(machine: VirtualMachine | undefined, isThere: boolean): boolean {
    if (machine === undefined || machine.metadata.deletionTimestamp !== undefined) return false;
    const strategy = machine.spec?.runStrategy ?? "";
    if (strategy === "Manual") return isThere || this.#world.startRequested;
    return ["Always", "RerunOnFailure", "Once"].includes(strategy);
  }

  /** Which claim KubeVirt keeps the machine's TPM and firmware state on: by its label, or else by its name; it makes one where there is none. */
  #findState(machine: VirtualMachine): void {
    const { name, namespace = "", uid = "" } = machine.metadata;
    const domain = at(machine.spec?.template, "spec", "domain");
    if (at(domain, "devices", "tpm").persistent !== true) return;
    const label = "persistent-state-for";
    const claims = this.#world.cluster
      .all(CLAIMS)
      .filter(({ metadata }) => metadata.namespace === namespace && metadata.deletionTimestamp === undefined);
    const labelled = claims.filter(({ metadata }) => metadata.labels?.[label] === name);
    if (labelled.length > 1)
      this.#world.faults.push(`the state of ${name} may be any of ${labelled.map(({ metadata }) => metadata.name)}`);
    const found = labelled[0] ?? claims.find(({ metadata }) => metadata.name === `${label}-${name}`);
    const made = `${label}-${name}-${uid.slice(-4)}`;
    if (found === undefined)
      this.#world.cluster.put(CLAIMS, {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: {
          name: made,
          namespace,
          labels: { [label]: name },
          ownerReferences: [{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name, uid }],
        },
        spec: {},
      });
    this.#world.stateUsed.push(found?.metadata.name ?? made);
  }

  /** A machine that starts on the agent can write there, and finds its exports. */
  #checkServed(volumes: readonly VirtualMachineVolume[]): void {
    const claims = volumes.map((volume) => podVolume(volume).persistentVolumeClaim?.claimName);
    const served = claims.filter((claim) => claim?.endsWith("-restoring") === true);
    if (served.length === 0) return;
    if (this.#world.sealed) this.#world.faults.push("started on disks that are sealed");
    for (const claim of served) {
      const volume = this.#world.cluster.all(VOLUMES).find(({ spec }) => spec?.claimRef?.name === claim);
      if (volume?.spec?.nfs?.path !== this.#world.exportPath)
        this.#world.faults.push(`started on an old export of ${claim}`);
    }
  }
}

/** What a launcher mounts for a machine's volume. KubeVirt takes the claim of that name for a DataVolume's (`PVCNameFromVirtVolume`). */
function podVolume({ dataVolume, ...volume }: VirtualMachineVolume): VirtualMachineVolume {
  if (dataVolume === undefined) return volume;
  return { ...volume, persistentVolumeClaim: { claimName: String(at(dataVolume).name) } };
}
