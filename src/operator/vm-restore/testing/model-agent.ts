import type { AgentStatus, DiskBus, RelocationProgress } from "../../../api/agent-control.ts";
import type { AgentControlOptions } from "../../../api/agent-control-client.ts";
import type { PeersRequest } from "../../../api/peers.ts";
import type { AgentControl } from "../../actions.ts";
import { INSTANCES, STATEFUL_SETS, type VirtualMachineInstance } from "../../kinds.ts";
import { DISK_SIZE, manifest } from "./backed-up.ts";
import type { World } from "./world.ts";

/** A media agent, as simple as it may be; and what the relocation Job reports to it. */
export class ModelAgent {
  readonly #world: World;
  #instance = 0;
  #sealed = false;
  #exports = 0;
  #pinned = true;
  #relocation: RelocationProgress | undefined;
  readonly #buses = new Map<string, DiskBus>();
  #limit: number | undefined;
  /** What each restore's agent was told last, by its authority. */
  readonly #peers = new Map<string, PeersRequest>();

  constructor(world: World) {
    this.#world = world;
  }

  /** The process was killed: state stays, the instance is another. */
  restart(): void {
    this.#instance++;
    this.#peers.clear();
  }

  /** What the agents of the restores were told last, with each one's authority. */
  get peersTold(): ReadonlyMap<string, PeersRequest> {
    return this.#peers;
  }

  /** A Job that begins to copy where none did before. */
  begin(): void {
    this.#relocation ??= { cursor: 0, bytesTotal: DISK_SIZE, bytesDurable: 0, rate: 0, state: "FirstPass" };
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

  /** @param options of an agent that knows of sharing: each restore's is another */
  connect = (options?: AgentControlOptions): AgentControl & { close(): void } => ({
    close: () => undefined,
    status: async () => {
      const digest = this.#peers.get(options?.tls.ca ?? "")?.digest;
      const peers = { bytesTaken: 0, bytesGiven: 0, ...(digest === undefined ? {} : { digest }) };
      return { ...this.#status(), ...(options === undefined ? {} : { peers }) };
    },
    manifest: async () =>
      this.#world.backedUp ?? manifest(this.#world.disks, this.#world.manifestBus, this.#world.hasTpm),
    objects: async () => [...this.#world.objects],
    stateFiles: async () => this.#world.stateFiles,
    profile: async () => ({ boots: 1, disks: [{ name: "root", size: DISK_SIZE, extents: "0+2" }] }),
    setPhase: async (phase) => this.#tell(`phase ${phase}`, () => undefined),
    setBus: async (disk, bus) =>
      this.#tell(`bus ${bus}`, () => {
        this.#buses.set(disk, bus);
      }),
    seal: async () =>
      this.#tell("seal", () => {
        if (this.#world.cluster.all(INSTANCES).some(isServed)) throw new Error("sealed under a running machine");
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
    setPeers: async (request) =>
      this.#tell(`peers ${request.peers.length}`, () => {
        this.#peers.set(options?.tls.ca ?? "", request);
      }),
    unpin: async () =>
      this.#tell("unpin", () => {
        this.#pinned = false;
      }),
  });

  #tell(what: string, effect: () => void): void {
    this.#world.onTell(what, "before");
    effect();
    this.#world.told.push(what);
    this.#world.onTell(what, "after");
  }

  #status(): AgentStatus {
    this.#world.asked++;
    if (!this.#world.agentAnswers || this.#world.cluster.all(STATEFUL_SETS).length === 0)
      throw new Error("connection refused");
    return {
      instance: `instance-${this.#instance}`,
      epoch: 1,
      snapshot: "a".repeat(64),
      serving: true,
      bootSet: {
        source: "Structure",
        complete: this.#world.staged === 100,
        launchable: this.#world.launchable,
        bytes: 100,
        staged: this.#world.staged,
        guestReads: 4,
        guestHits: 3,
      },
      repository: {
        reachable: true,
        message: "",
        bytesFetched: this.#world.bytesFetched,
        ...(this.#world.repositoryRate === undefined ? {} : { bytesPerSecond: this.#world.repositoryRate }),
        pinned: this.#pinned,
        pinMessage: "",
        longestWait: this.#world.longestWait,
      },
      ...(this.#limit === undefined ? {} : { relocationLimit: this.#limit }),
      overlay: { full: this.#world.overlayFull, bytesUsed: 0, bytesFree: 1 },
      ...(this.#world.move === undefined ? {} : { move: this.#world.move }),
      connections: { nfs: this.#world.nfsConnections, nbd: 0 },
      disks: this.#world.disks.map((name) => ({
        name,
        size: DISK_SIZE,
        exportPath: this.exportPath,
        sealed: this.#sealed,
        ...(this.#buses.has(name) ? { bus: this.#buses.get(name) } : {}),
        overlayBytes: 0,
        dirtyBytes: 0,
        bootSetStaged: 100,
        bootSetTotal: 100,
        ...(this.#world.copiedUntil === 0 ? {} : { copiedUntil: this.#world.copiedUntil }),
        ...(this.#relocation === undefined ? {} : { relocation: this.#relocation }),
      })),
    };
  }

  /** The Job goes on by one step. */
  copy(): void {
    const progress = this.#relocation;
    if (progress === undefined) return;
    const done = { ...progress, cursor: DISK_SIZE, bytesTotal: DISK_SIZE, bytesDurable: DISK_SIZE };
    if (progress.state === "FirstPass") this.#relocation = { ...done, state: "Converging", rate: 1e6 };
    else if (progress.state === "Converging") this.#relocation = { ...done, state: "Converged" };
    else if (progress.state === "Converged" && this.#sealed) this.#relocation = { ...done, state: "Verifying" };
    else if (progress.state === "Verifying") {
      this.#relocation = this.#world.verifyFails
        ? { ...done, state: "VerifyFailed" }
        : { ...done, state: "Done", checksum: "c".repeat(64) };
    }
  }
}

/** Whether it runs from the agent: others may run beside it. */
function isServed({ spec }: VirtualMachineInstance): boolean {
  return spec?.volumes?.some(({ persistentVolumeClaim: claim }) => claim?.claimName.endsWith("-restoring")) ?? false;
}
