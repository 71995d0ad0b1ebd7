import type { AgentMove, RelocationProgress } from "../../../api/agent-control.ts";
import type { AgentControlOptions } from "../../../api/agent-control-client.ts";
import type { Inspection } from "../../../api/inspection.ts";
import { ManualClock } from "../../../base/testing/manual-clock.ts";
import type { AgentControl } from "../../actions.ts";
import {
  BACKUP_REPOSITORIES,
  CLAIMS,
  SERVICES,
  STORAGE_CLASSES,
  VIRTUAL_MACHINES,
  VM_RESTORES,
  VOLUMES,
} from "../../kinds.ts";
import type { ResourceType } from "../../runtime/objects.ts";
import { FakeCluster } from "../../runtime/testing/fake-cluster.ts";
import { diskOf, manifest } from "./backed-up.ts";
import { ModelAgent } from "./model-agent.ts";
import { ModelMachines } from "./model-machines.ts";
import { ModelPods } from "./model-pods.ts";
import { VolumeMigrations } from "./volume-migrations.ts";

export const TENANT = "default";
export const OWN = "vmrestore-system";
/** Of the machine that there is already, where there is one. */
export const OLD_UID = "01de0000-0000-4000-8000-000000000001";
/** Everything around the operator, as simple as it may be: controllers of a cluster, KubeVirt, an agent, a relocation Job. */
export class World {
  readonly clock = new ManualClock();
  readonly cluster = new FakeCluster(this.clock);
  readonly volumeMigrations = new VolumeMigrations(this.cluster);
  readonly agent = new ModelAgent(this);
  readonly pods = new ModelPods(this);
  readonly #machines = new ModelMachines(this);
  /** What the inspection finds. */
  found: Inspection = {
    snapshot: {
      id: "a".repeat(64),
      time: "2026-01-01T00:00:00Z",
      host: "orders-db",
      virtualMachine: "orders-db",
      disks: [diskOf("root")],
      dataBytes: 8_000_000,
    },
  };
  /** What the inspections of further snapshots find. */
  foundElsewhere: Inspection[] = [];
  guestReady = true;
  /** The guest has shut itself down; what KubeVirt makes of that is the run strategy's affair. */
  poweredOff = false;
  /** Launcher pods do not get further than this, and neither do their machines. */
  launcherWaits = false;
  /** Asked for by hand, as by `virtctl start`. */
  startRequested = false;
  /** Bytes of the boot set, of 100. */
  staged = 100;
  launchable = true;
  /** Of the backed-up machine. */
  disks: readonly string[] = ["root"];
  /** Mounts that the agent sees. */
  nfsConnections = 0;
  agentAnswers = true;
  verifyFails = false;
  /** False: the relocation Job runs and gets no further. */
  copyingGoesOn = true;
  /** How the machine's manifest says that its disk is attached, and how the hypervisor does it. */
  manifestBus: string | null = "virtio";
  instanceBus: string | undefined;
  /** Milliseconds that a read has been waiting for the repository. */
  longestWait = 0;
  overlayFull = false;
  /** Where the agent's pod is put, once that matters, and which nodes its claims can be reached from: all unless given. */
  agentNode: string | undefined;
  reachableFrom: readonly string[] | undefined;
  /** The last move that the agent tells of. */
  move: AgentMove | undefined;
  /** The manifest in the snapshot, where it is another than the plain one, and what lies beside it. */
  backedUp: unknown;
  objects: readonly unknown[] = [];
  stateFiles: { path: string; size: number }[] = [];
  /** Machines have a persistent TPM: those that are there, and the one that was backed up. */
  hasTpm = false;
  /** The claims of TPM state that instances were started with, in order. */
  readonly stateUsed: string[] = [];
  /** What the Job that restores the machine's state comes to. */
  stateJobFails = false;
  /** Why the scheduler finds no node for it. */
  stateJobWaits: string | undefined;
  /** What a machine met that must not be. */
  readonly faults: string[] = [];
  /** That the agent fetched from the repository so far. */
  bytesFetched = 1000;
  /** How often the agent was asked how it is. */
  asked = 0;
  /** How far a live migration's copy has come, of each disk. */
  copiedUntil = 0;
  /** Bytes a second that were measured from the repository. */
  repositoryRate: number | undefined;
  /** Requests that changed something at the agent. */
  readonly told: string[] = [];
  /** Called before and after each of them. */
  onTell: (what: string, moment: "before" | "after") => void = () => undefined;
  constructor() {
    this.cluster.put(STORAGE_CLASSES, {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: "fast", annotations: { "storageclass.kubernetes.io/is-default-class": "true" } },
      provisioner: "example.org/replicated",
    });
    this.cluster.put(BACKUP_REPOSITORIES, {
      apiVersion: "vmrestore.io/v1alpha1",
      kind: "BackupRepository",
      metadata: { name: "nightly", namespace: TENANT },
      spec: { local: { claimName: "backups" }, credentialsSecretRef: { name: "password" } },
      status: {
        conditions: [
          { type: "Ready", status: "True", reason: "Checked", message: "", lastTransitionTime: "2026-01-01T00:00:00Z" },
        ],
      },
    });
  }

  /** @param change laid over the spec, field by field at the top */
  restore(change: object = {}, name = "orders-db"): void {
    this.cluster.put(VM_RESTORES, {
      apiVersion: "vmrestore.io/v1alpha1",
      kind: "VMRestore",
      metadata: { name, namespace: TENANT },
      spec: {
        source: { repository: { name: "nightly" }, snapshot: { latest: {} } },
        virtualMachine: { name: "orders-db" },
        relocation: { target: { storageClassName: "fast" }, cutover: { when: "Automatic" } },
        ...change,
      },
    });
  }

  /** There is a machine of that name already, which owns its disks, and runs. */
  existing(uid = OLD_UID): void {
    const { metadata, spec } = manifest(["root", "data"], "virtio", this.hasTpm);
    this.cluster.put(
      VIRTUAL_MACHINES,
      {
        apiVersion: "kubevirt.io/v1",
        kind: "VirtualMachine",
        metadata: { ...metadata, namespace: TENANT, annotations: { "example.org/owner": "orders" } },
        spec: {
          ...spec,
          dataVolumeTemplates: ["root", "data"].map((name) => ({ metadata: { name: `orders-db-${name}` } })),
          template: {
            ...spec.template,
            spec: {
              ...spec.template.spec,
              volumes: [
                { name: "root", persistentVolumeClaim: { claimName: "orders-db-root" } },
                { name: "data", dataVolume: { name: "orders-db-data" } },
              ],
            },
          },
        },
      },
      uid,
    );
    for (const name of ["orders-db-root", "orders-db-data"]) {
      const ownerReferences = [{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "orders-db", uid }];
      this.cluster.put(CLAIMS, {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: { name, namespace: TENANT, ownerReferences },
        spec: {},
      });
    }
    this.step();
  }

  /** The backup holds these disks. */
  backUp(...disks: string[]): void {
    this.disks = disks;
    if (this.found.snapshot !== undefined)
      this.found = { ...this.found, snapshot: { ...this.found.snapshot, disks: disks.map(diskOf) } };
  }

  /** Lets everybody but the operator do what is to be done now. */
  step(): void {
    for (const { metadata } of this.cluster.all(SERVICES)) {
      this.cluster.change(SERVICES, metadata.namespace, metadata.name, (service) => {
        service.spec = { ...service.spec, clusterIP: service.spec?.clusterIP ?? "10.0.0.7" };
      });
    }
    const machines = new Set(this.cluster.all(VIRTUAL_MACHINES).map(({ metadata }) => metadata.uid));
    for (const { metadata } of this.cluster.all(CLAIMS)) {
      // What its owner leaves behind is collected.
      if (metadata.ownerReferences?.some(({ uid }) => !machines.has(uid)) === true)
        this.cluster.erase(CLAIMS, metadata.namespace, metadata.name);
      this.cluster.change(CLAIMS, metadata.namespace, metadata.name, (claim) => {
        claim.status = { phase: "Bound" };
        if (this.agentNode !== undefined && metadata.namespace === OWN)
          claim.spec = { ...claim.spec, volumeName: `pv-${metadata.name}` };
      });
      if (this.agentNode !== undefined && metadata.namespace === OWN) this.#volume(`pv-${metadata.name}`);
    }
    this.pods.run();
    this.#machines.run();
    this.volumeMigrations.step();
    if (this.copyingGoesOn && this.pods.isCopying) this.agent.copy();
  }

  /** People start the machine by hand, now or as soon as there is one. */
  start(): void {
    this.startRequested = true;
    for (const { metadata, spec } of this.cluster.all(VIRTUAL_MACHINES))
      if (spec?.runStrategy === "Halted")
        this.cluster.change(VIRTUAL_MACHINES, metadata.namespace, metadata.name, (machine) => {
          machine.spec = { ...machine.spec, runStrategy: "Always" };
        });
  }

  /** The agent's process was killed: state stays, the instance is another. */
  restartAgent(): void {
    this.agent.restart();
  }

  /** Another one each time that a seal was taken back. */
  get exportPath(): string {
    return this.agent.exportPath;
  }

  get sealed(): boolean {
    return this.agent.sealed;
  }

  get progress(): RelocationProgress | undefined {
    return this.agent.progress;
  }

  connect = (options: AgentControlOptions): AgentControl & { close(): void } => this.agent.connect(options);

  #volume(name: string): void {
    if (this.cluster.peek(VOLUMES, undefined, name) !== undefined) return;
    const values = this.reachableFrom;
    const matchExpressions = [{ key: "kubernetes.io/hostname", operator: "In", values }];
    const nodeAffinity =
      values === undefined ? {} : { nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions }] } } };
    this.cluster.put(VOLUMES as ResourceType, {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name },
      spec: nodeAffinity,
    });
  }
}
