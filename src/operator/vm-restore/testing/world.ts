import type { AgentStatus, DiskBus, RelocationProgress } from "../../../api/agent-control.ts";
import type { Inspection } from "../../../api/inspection.ts";
import { ManualClock } from "../../../base/testing/manual-clock.ts";
import type { AgentControl } from "../../actions.ts";
import {
  BACKUP_REPOSITORIES,
  CLAIMS,
  INSTANCES,
  JOBS,
  type Job,
  PODS,
  SERVICES,
  STATEFUL_SETS,
  STORAGE_CLASSES,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  VM_RESTORES,
  VOLUMES,
} from "../../kinds.ts";
import type { ResourceType } from "../../runtime/objects.ts";
import { FakeCluster } from "../../runtime/testing/fake-cluster.ts";
import { VolumeMigrations } from "./volume-migrations.ts";

export const TENANT = "default";
export const OWN = "vmrestore-system";
/** Of the machine that there is already, where there is one. */
export const OLD_UID = "01de0000-0000-4000-8000-000000000001";
export const DISK_SIZE = 64 * 2 ** 20;

const diskOf = (name: string) => ({ name, path: `/disks/${name}.img`, format: "raw" as const, size: DISK_SIZE });

/**
 * @param disks names of its volumes
 * @param bus how they are attached; null says nothing of it
 */
export function manifest(disks: readonly string[] = ["root"], bus: string | null = "virtio") {
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

/** Everything around the operator, as simple as it may be: controllers of a cluster, KubeVirt, an agent, a relocation Job. */
export class World {
  readonly clock = new ManualClock();
  readonly cluster = new FakeCluster(this.clock);
  readonly volumeMigrations = new VolumeMigrations(this.cluster);
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
  /** The manifest in the snapshot, where it is another than the plain one, and what lies beside it. */
  backedUp: unknown;
  objects: readonly unknown[] = [];
  stateFiles: { path: string; size: number }[] = [];
  /** What the Job that restores the machine's state comes to. */
  stateJobFails = false;
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
  #instance = 0;
  #sealed = false;
  #exports = 0;
  #pinned = true;
  #relocation: RelocationProgress | undefined;
  readonly #buses = new Map<string, DiskBus>();
  #limit: number | undefined;

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
    const { metadata, spec } = manifest(["root", "data"]);
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
      });
    }
    this.#runPods();
    this.#runMachines();
    this.volumeMigrations.step();
    if (this.#relocation !== undefined && this.copyingGoesOn && this.#jobRuns()) this.#copy();
  }

  /** The agent's process was killed: state stays, the instance is another. */
  restartAgent(): void {
    this.#instance++;
  }

  /** Another one each time that a seal was taken back. */
  get exportPath(): string {
    return this.#exports === 0 ? "/export/capability" : `/export/capability-${this.#exports}`;
  }

  get sealed(): boolean {
    return this.#sealed;
  }

  get progress(): RelocationProgress | undefined {
    return this.#relocation;
  }

  connect = (): AgentControl & { close(): void } => ({
    close: () => undefined,
    status: async () => this.#status(),
    manifest: async () => this.backedUp ?? manifest(this.disks, this.manifestBus),
    objects: async () => [...this.objects],
    stateFiles: async () => this.stateFiles,
    profile: async () => ({ boots: 1, disks: [{ name: "root", size: DISK_SIZE, extents: "0+2" }] }),
    setPhase: async (phase) => this.#tell(`phase ${phase}`, () => undefined),
    setBus: async (disk, bus) =>
      this.#tell(`bus ${bus}`, () => {
        this.#buses.set(disk, bus);
      }),
    seal: async () =>
      this.#tell("seal", () => {
        if (this.cluster.all(INSTANCES).length > 0) throw new Error("sealed under a running machine");
        this.#sealed = true;
      }),
    reportRelocation: async (_, progress) =>
      this.#tell("reset", () => {
        this.#relocation = progress;
      }),
    unseal: async () =>
      this.#tell("unseal", () => {
        if (this.#relocation !== undefined && this.#relocation.cursor > 0)
          throw new Error("opened for writing while it counts as copied");
        if (this.#sealed) this.#exports++;
        this.#sealed = false;
      }),
    setRelocationLimit: async (bytesPerSecond) =>
      this.#tell(`limit ${bytesPerSecond}`, () => {
        this.#limit = bytesPerSecond;
      }),
    unpin: async () =>
      this.#tell("unpin", () => {
        this.#pinned = false;
      }),
  });

  #tell(what: string, effect: () => void): void {
    this.onTell(what, "before");
    effect();
    this.told.push(what);
    this.onTell(what, "after");
  }

  #status(): AgentStatus {
    this.asked++;
    if (!this.agentAnswers || this.cluster.all(STATEFUL_SETS).length === 0) throw new Error("connection refused");
    return {
      instance: `instance-${this.#instance}`,
      epoch: 1,
      snapshot: "a".repeat(64),
      serving: true,
      bootSet: {
        source: "Structure",
        complete: this.staged === 100,
        launchable: this.launchable,
        bytes: 100,
        staged: this.staged,
        guestReads: 4,
        guestHits: 3,
      },
      repository: {
        reachable: true,
        message: "",
        bytesFetched: this.bytesFetched,
        ...(this.repositoryRate === undefined ? {} : { bytesPerSecond: this.repositoryRate }),
        pinned: this.#pinned,
        pinMessage: "",
        longestWait: this.longestWait,
      },
      ...(this.#limit === undefined ? {} : { relocationLimit: this.#limit }),
      overlay: { full: this.overlayFull, bytesUsed: 0, bytesFree: 1 },
      connections: { nfs: this.nfsConnections, nbd: 0 },
      disks: this.disks.map((name) => ({
        name,
        size: DISK_SIZE,
        exportPath: this.exportPath,
        sealed: this.#sealed,
        ...(this.#buses.has(name) ? { bus: this.#buses.get(name) } : {}),
        overlayBytes: 0,
        dirtyBytes: 0,
        bootSetStaged: 100,
        bootSetTotal: 100,
        ...(this.copiedUntil === 0 ? {} : { copiedUntil: this.copiedUntil }),
        ...(this.#relocation === undefined ? {} : { relocation: this.#relocation }),
      })),
    };
  }

  #runPods(): void {
    const jobs = this.cluster.all(JOBS);
    for (const pod of this.cluster.all(PODS)) {
      const owner = pod.metadata.ownerReferences?.[0]?.uid;
      const lives = [...jobs, ...this.cluster.all(STATEFUL_SETS), ...this.cluster.all(INSTANCES)].some(
        ({ metadata }) => metadata.uid === owner,
      );
      if (!lives) this.cluster.erase(PODS, pod.metadata.namespace, pod.metadata.name);
    }
    for (const set of this.cluster.all(STATEFUL_SETS))
      this.#pod(`${set.metadata.name}-0`, set, { "app.kubernetes.io/name": "vmrestore-media-agent" });
    for (const job of jobs) {
      if (/-inspect(-\d+)?$/.test(job.metadata.name)) this.#inspect(job);
      else if (job.metadata.name.endsWith("-state")) this.#fillState(job);
      else {
        this.#pod(`${job.metadata.name}-0`, job, { "job-name": job.metadata.name });
        this.#relocation ??= { cursor: 0, bytesTotal: DISK_SIZE, bytesDurable: 0, rate: 0, state: "FirstPass" };
      }
    }
  }

  #fillState(job: Job): void {
    this.cluster.change(JOBS, job.metadata.namespace, job.metadata.name, (changed) => {
      const conditions = [{ type: "Failed", status: "True", reason: "BackoffLimitExceeded", message: "it failed" }];
      changed.status = this.stateJobFails ? { failed: 3, conditions } : { succeeded: 1 };
    });
  }

  #inspect(job: Job): void {
    const index = Number(/-inspect-(\d+)$/.exec(job.metadata.name)?.[1] ?? 0);
    const message = JSON.stringify(index === 0 ? this.found : this.foundElsewhere[index - 1]);
    this.#pod(
      `${job.metadata.name}-0`,
      job,
      { "job-name": job.metadata.name },
      {
        phase: "Succeeded",
        containerStatuses: [{ name: "inspect", state: { terminated: { exitCode: 0, message } } }],
      },
    );
    this.cluster.change(JOBS, job.metadata.namespace, job.metadata.name, (changed) => {
      changed.status = { succeeded: 1 };
    });
  }

  #pod(
    name: string,
    owner: {
      kind: string;
      metadata: { name: string; namespace?: string; uid?: string; labels?: Record<string, string> };
    },
    labels: Record<string, string>,
    status: object = { phase: "Running" },
    spec: object = {},
  ): void {
    const { namespace = "", uid = "" } = owner.metadata;
    const present = this.cluster.peek(PODS, namespace, name);
    if (present?.metadata.ownerReferences?.[0]?.uid === uid) return;
    this.cluster.erase(PODS, namespace, name);
    const ownerReferences = [{ uid, kind: owner.kind, name: owner.metadata.name }];
    const metadata = { name, namespace, labels: { ...owner.metadata.labels, ...labels }, ownerReferences };
    this.cluster.put(PODS as ResourceType, { apiVersion: "v1", kind: "Pod", metadata, spec, status });
  }

  #runMachines(): void {
    for (const instance of this.cluster.all(INSTANCES)) {
      const machine = this.cluster.peek(VIRTUAL_MACHINES, instance.metadata.namespace, instance.metadata.name);
      if (isWanted(machine) && instance.metadata.deletionTimestamp === undefined) continue;
      this.cluster.change(INSTANCES, instance.metadata.namespace, instance.metadata.name, (ending) => {
        ending.status = { ...ending.status, phase: ending.status?.phase === "Failed" ? "Failed" : "Succeeded" };
      });
      this.cluster.erase(INSTANCES, instance.metadata.namespace, instance.metadata.name);
      this.cluster.erase(PODS, instance.metadata.namespace, `virt-launcher-${instance.metadata.name}`);
    }
    for (const machine of this.cluster.all(VIRTUAL_MACHINES)) {
      if (!isWanted(machine) || !this.volumeMigrations.maySetOut(machine)) continue;
      const { name, namespace = "", labels = {} } = machine.metadata;
      const volumes = machine.spec?.template?.spec?.volumes ?? [];
      if (this.cluster.peek(INSTANCES, namespace, name) === undefined) {
        this.#checkServed(volumes);
        this.cluster.put(INSTANCES, {
          apiVersion: "kubevirt.io/v1",
          kind: "VirtualMachineInstance",
          metadata: { name, namespace, labels },
          spec: { volumes },
        });
      }
      this.cluster.change(INSTANCES, namespace, name, (instance) => {
        const disks = [{ name: "root", disk: { bus: this.instanceBus ?? "sata" } }];
        if (this.instanceBus !== undefined) instance.spec = { ...instance.spec, domain: { devices: { disks } } };
        if (instance.metadata.deletionTimestamp !== undefined) return;
        const others = (instance.status?.conditions ?? []).filter(({ type }) => type !== "AgentConnected");
        const conditions = this.guestReady ? [...others, { type: "AgentConnected", status: "True" }] : others;
        instance.status = { ...instance.status, phase: "Running", nodeName: "node-1", conditions };
      });
      const instance = this.cluster.peek(INSTANCES, namespace, name);
      const { completed, failed } = instance?.status?.migrationState ?? {};
      // One that was migrated runs in another pod.
      const isHere = completed !== true || failed === true;
      if (instance !== undefined && instance.metadata.deletionTimestamp === undefined && isHere)
        this.#pod(
          `virt-launcher-${name}`,
          instance,
          { "kubevirt.io": "virt-launcher" },
          { phase: "Running" },
          { volumes },
        );
    }
  }

  /** A machine that starts on the agent can write there, and finds its exports. */
  #checkServed(volumes: readonly { persistentVolumeClaim?: { claimName: string } }[]): void {
    const served = volumes.flatMap(({ persistentVolumeClaim: claim }) =>
      claim?.claimName.endsWith("-restoring") === true ? [claim.claimName] : [],
    );
    if (served.length === 0) return;
    if (this.#sealed) this.faults.push("started on disks that are sealed");
    for (const claim of served) {
      const volume = this.cluster.all(VOLUMES).find(({ spec }) => spec?.claimRef?.name === claim);
      if (volume?.spec?.nfs?.path !== this.exportPath) this.faults.push(`started on an old export of ${claim}`);
    }
  }

  #jobRuns(): boolean {
    return this.cluster
      .all(JOBS)
      .some(({ metadata }) => metadata.name.endsWith("-copy") && metadata.deletionTimestamp === undefined);
  }

  #copy(): void {
    const progress = this.#relocation;
    if (progress === undefined) return;
    const done = { ...progress, cursor: DISK_SIZE, bytesTotal: DISK_SIZE, bytesDurable: DISK_SIZE };
    if (progress.state === "FirstPass") this.#relocation = { ...done, state: "Converging", rate: 1e6 };
    else if (progress.state === "Converging") this.#relocation = { ...done, state: "Converged" };
    else if (progress.state === "Converged" && this.#sealed) this.#relocation = { ...done, state: "Verifying" };
    else if (progress.state === "Verifying") {
      this.#relocation = this.verifyFails
        ? { ...done, state: "VerifyFailed" }
        : { ...done, state: "Done", checksum: "c".repeat(64) };
    }
  }
}

function isWanted(machine: VirtualMachine | undefined): machine is VirtualMachine {
  return machine?.spec?.runStrategy === "Always" && machine.metadata.deletionTimestamp === undefined;
}
