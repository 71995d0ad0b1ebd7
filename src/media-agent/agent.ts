import { randomUUID } from "node:crypto";
import type { AgentConfig } from "../api/agent-config.ts";
import type { AgentPhase, AgentStatus } from "../api/agent-control.ts";
import type { BootProfile } from "../api/boot-profile.ts";
import type { MachineState, StateListing } from "../api/machine-state.ts";
import { type PeersRequest, peerToken } from "../api/peers.ts";
import type { Clock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import type { TlsFiles } from "../base/tls-files.ts";
import type { ReadClass } from "../disk/block-device.ts";
import { ClaimRoom } from "../disk/overlay/claim-room.ts";
import { overlayDirectory } from "../disk/overlay/files.ts";
import { Overlay } from "../disk/overlay/overlay.ts";
import { NbdServer } from "../nbd/server.ts";
import { NfsServer } from "../nfs/server.ts";
import type { AgentState } from "./agent-state.ts";
import { isLaunchable } from "./boot-set/launch.ts";
import { BootWatch } from "./boot-watch.ts";
import type { ControlledAgent } from "./control-routes.ts";
import { AgentError } from "./errors.ts";
import { ExportedDisk, type ExportObserver, type Reading } from "./exported-disk.ts";
import type { AgentMetrics } from "./metrics.ts";
import { nbdDisk } from "./nbd-disk.ts";
import { patienceOf } from "./patience.ts";
import { PeerClient } from "./peers/peer-client.ts";
import type { SharedBlobs } from "./peers/peer-server.ts";
import { Peers } from "./peers/peers.ts";
import { Pin, Pins } from "./pin.ts";
import { ReadPath } from "./read-path.ts";
import type { RepositorySource } from "./repository-source.ts";
import type { RunRecord } from "./run-record.ts";
import { SnapshotFiles } from "./snapshot-files.ts";
import { WatchedSource } from "./watched-source.ts";

/** How long calls under way may take to end once the agent is asked to: clients send again what was not answered. */
const DRAIN_MS = 2000;
/** Bytes of the overlay's claim that the guest leaves free for the agent's state, its successor, and what the file system takes. */
const STATE_BYTES = 4 * 1024 * 1024;
/** How often the free space of the overlay's claim is looked at. */
const FREE_SPACE_MS = 5000;
/** Disks and machines that are remembered as having been logged. */
const TOLD_LIMIT = 1024;

export interface AgentOptions {
  readonly config: AgentConfig;
  readonly state: AgentState;
  /** Absent where it is not known on which node this is. */
  readonly run?: RunRecord | undefined;
  /** The profile that the operator gave; an own one that was learned since is newer. */
  readonly profile: BootProfile | undefined;
  readonly overlayDirectory: string;
  readonly cacheDirectory: string;
  readonly tls: TlsFiles;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: AgentMetrics;
  /** The process must end: what is on the overlay's claim cannot be trusted to be durable any more. */
  readonly onFatal: (error: unknown) => void;
}

/** What exists once the repository was opened. */
interface Serving {
  readonly source: RepositorySource;
  readonly files: SnapshotFiles;
  readonly reads: ReadPath;
  readonly disks: readonly ExportedDisk[];
  readonly images: readonly WatchedSource[];
  readonly pin: Pins;
}

/** The media agent: what serves the disks of one restore, and what the control API and the metrics ask. */
export class MediaAgent implements ControlledAgent, ExportObserver {
  /** Changes with every start. */
  readonly instance = randomUUID();
  readonly nfs: NfsServer;
  readonly nbd: NbdServer;
  readonly #options: AgentOptions;
  readonly #boot: BootWatch;
  readonly #peers: Peers;
  /** What each agent of the group shows when it asks for a blob. */
  #tokens: ReadonlyMap<string, string> = new Map();
  readonly #stopping = new AbortController();
  #serving: Serving | undefined;
  #listening = false;
  #waiting = "starting";
  #bootSetSource: "Profile" | "Structure" = "Structure";
  /** When the agent began to look for the boot set and to stage it, in monotonic milliseconds. */
  #stagingSince = 0;
  #overlayFree = 0;
  /** Something was gone from the repository when it was read. */
  #isMissing = false;
  /** Disks and machines of which it was logged that their writes are refused. */
  readonly #toldRefused = new Set<string>();

  constructor(options: AgentOptions) {
    const { state, tls, log } = options;
    this.#options = options;
    this.#boot = new BootWatch(state.current.phase);
    const { clock, metrics } = options;
    const self = options.config.restore.uid;
    const connect = (peer: PeersRequest["peers"][number]): PeerClient => new PeerClient(peer, self, clock);
    this.#peers = new Peers({ self, clock, log, observer: metrics, connect });
    this.nbd = new NbdServer({ tls });
    this.nfs = new NfsServer({
      identity: options.config.restore.uid,
      clients: options.config.nfsClients ?? [],
      onError: (error) => {
        if (errorCode(error) === "WRITER_FENCED") return; // told once for each machine
        log.error({ code: errorCode(error), reason: errorMessage(error) }, "a client got an I/O error");
      },
      onFirstAnswer: (at) => options.run?.answered(at),
    });
  }

  /** Why the exports are not served; undefined once they are. */
  get notReady(): string | undefined {
    return this.#listening ? undefined : this.#waiting;
  }

  get profile(): BootProfile | undefined {
    return this.#options.state.current.profile;
  }

  /** The agent waits for something, in words for people. */
  waitFor(message: string): void {
    this.#waiting = message;
  }

  /** Opens the disks and begins to stage and to pin. Clients may connect when it resolves. */
  async serve(source: RepositorySource): Promise<void> {
    const { config, state, clock, metrics, log, cacheDirectory } = this.#options;
    const reads = await ReadPath.open({
      source,
      config,
      cacheDirectory,
      clock,
      metrics,
      peers: this.#peers,
      relocated: (disk) => state.disk(disk).relocation?.cursor ?? 0,
      onGuestRead: (disk, offset, length, missed) => this.#boot.imageRead(disk, offset, length, missed),
      onMissing: () => this.#missed(),
      onHydrated: () => this.#hydrated(),
    });
    const directory = overlayDirectory(this.#options.overlayDirectory);
    const room = new ClaimRoom(directory, STATE_BYTES);
    const disks: ExportedDisk[] = [];
    const images: WatchedSource[] = [];
    for (const { name, image } of reads.disks) {
      const { epoch } = config;
      const onFailed = (error: unknown): void => this.#options.onFatal(error);
      const base = new WatchedSource(image, clock);
      images.push(base);
      const overlay = await Overlay.open({ directory, room, disk: name, base, epoch, clock, onFailed });
      const patience = patienceOf(clock, config.answerLimitMs);
      const { signal } = this.#stopping;
      const options = { name, overlay, state, nfs: this.nfs, epoch, observer: this, patience, clock, signal, onFailed };
      disks.push(new ExportedDisk(options));
      this.nbd.addExport(nbdDisk(name, overlay, this));
    }
    const { snapshot } = config;
    const onLost = (): void => this.#hydrate();
    const pin = new Pins(
      source.snapshots.map(
        ({ id, repository, pinUid }) => new Pin({ repository, snapshot: id, uid: pinUid, clock, log, onLost }),
      ),
    );
    this.#serving = { source, files: new SnapshotFiles(source, snapshot.id), reads, disks, images, pin };
    if (source.tree === undefined) this.#missed();
    if (state.current.phase !== undefined) reads.enter(state.current.phase);

    const { signal } = this.#stopping;
    const report = (what: string) => (error: unknown) => {
      if (!signal.aborted) log.error({ code: errorCode(error), reason: errorMessage(error) }, what);
    };
    reads
      .stage(this.profile ?? this.#options.profile, (chosen) => this.#logBootSet(chosen), signal)
      .catch(report("staging ended"));
    if (snapshot.pin && !state.current.unpinned) pin.keep(signal).catch(report("pinning ended"));
    else pin.message = state.current.unpinned ? "the pin was removed" : "pinning is switched off";
    this.#watchFreeSpace(directory, signal).catch(report("the overlay's free space is not watched"));
  }

  /** Every server listens. */
  listening(): void {
    this.#listening = true;
  }

  status(): AgentStatus {
    const { config, state } = this.#options;
    const { relocationLimit } = state.current;
    const { source, reads, disks = [], images = [], pin } = this.#serving ?? {};
    const rate = reads?.scheduler.rate;
    const copiedUntil = (name: string): number => reads?.disks.find((disk) => disk.name === name)?.cursor.position ?? 0;
    return {
      instance: this.instance,
      epoch: config.epoch,
      snapshot: config.snapshot.id,
      serving: this.#listening,
      bootSet: {
        source: this.#bootSetSource,
        complete: reads?.bootSet.complete ?? false,
        launchable: this.#isLaunchable(),
        bytes: reads?.bootSet.total ?? 0,
        staged: reads?.bootSet.staged ?? 0,
        guestReads: this.#boot.guestReads,
        guestHits: this.#boot.guestHits,
      },
      repository: {
        reachable: reads?.reader.reachable ?? false,
        message: reads?.reader.message ?? this.#waiting,
        bytesFetched: (source?.repositories ?? []).reduce((sum, { counters }) => sum + counters.bytesFetched, 0),
        ...(rate === undefined ? {} : { bytesPerSecond: rate }),
        pinned: pin?.pinned ?? false,
        pinMessage: pin?.message ?? "not pinned yet",
        ...(reads?.hydrator.progress === undefined ? {} : { hydration: reads.hydrator.progress }),
        longestWait: Math.max(0, ...images.map(({ longestWait }) => longestWait)),
      },
      ...(relocationLimit === undefined ? {} : { relocationLimit }),
      overlay: {
        full: disks.some(({ full }) => full),
        ...(disks.some(({ overlay }) => overlay.stuck) ? { stuck: true } : {}),
        bytesUsed: disks.reduce((sum, { overlay }) => sum + overlay.overlayBytes, 0),
        bytesFree: this.#overlayFree,
      },
      ...(this.#options.run?.move === undefined ? {} : { move: this.#options.run.move }),
      peers: {
        ...(this.#peers.digest === undefined ? {} : { digest: this.#peers.digest }),
        bytesTaken: this.#options.metrics.bytesTaken,
        bytesGiven: this.#options.metrics.bytesGiven,
      },
      connections: { nfs: this.nfs.openConnections, nbd: this.nbd.openConnections },
      disks: disks.map((disk) =>
        disk.status(reads?.bootSet.progress(disk.name) ?? { total: 0, staged: 0 }, copiedUntil(disk.name)),
      ),
    };
  }

  async manifest(): Promise<unknown> {
    return this.#opened().files.manifest();
  }

  async objects(): Promise<unknown[]> {
    return this.#opened().files.objects();
  }

  async stateFiles(): Promise<StateListing> {
    return this.#opened().files.stateFiles();
  }

  async machineState(): Promise<MachineState> {
    return this.#opened().files.machineState();
  }

  async setPhase(phase: AgentPhase): Promise<void> {
    const { state, log } = this.#options;
    const { reads } = this.#opened();
    reads.enter(phase);
    const learning = this.#boot.enter(phase, reads.disks, this.profile ?? this.#options.profile);
    if (state.current.phase !== phase) await state.setPhase(phase);
    const learned = await learning;
    if (learned !== undefined) {
      await state.setProfile(learned);
      const { guestReads, guestHits } = this.#boot;
      log.info({ boots: learned.boots, guestReads, guestHits }, "learned from a boot");
    }
  }

  async setRelocationLimit(bytesPerSecond: number | null): Promise<void> {
    const { state } = this.#options;
    if ((state.current.relocationLimit ?? null) !== bytesPerSecond) await state.setRelocationLimit(bytesPerSecond);
  }

  /** From when it is told of them, other agents may have what is of these disks, and it asks them before it asks the repository. */
  async setPeers(request: PeersRequest): Promise<void> {
    const { tls, log } = this.#options;
    this.#tokens = new Map(request.peers.map(({ id }) => [id, peerToken(tls.key, id)]));
    if (request.digest !== this.#peers.digest) log.info({ agents: request.peers.map(({ id }) => id) }, "sharing blobs");
    this.#peers.tell(request);
  }

  /** What another agent shows when it asks; undefined where it is none of the group. */
  tokenOf(asker: string): string | undefined {
    return this.#tokens.get(asker);
  }

  /** Undefined until the disks are open. */
  get sharedBlobs(): SharedBlobs | undefined {
    return this.#serving?.reads.shared;
  }

  disk(name: string): ExportedDisk {
    const found = this.#opened().disks.find((disk) => disk.name === name);
    if (found === undefined) throw new AgentError("NOT_FOUND", `there is no disk ${name}`);
    return found;
  }

  async unpin(): Promise<void> {
    const { pin } = this.#opened();
    // Durable first: a restart in between must not pin again what nobody will ever unpin.
    await this.#options.state.setUnpinned();
    await pin.remove();
  }

  reading(disk: string, offset: number, length: number): Reading {
    const readClass = this.#serving?.reads.isCopy(disk, offset, length) ? "relocation" : "guest";
    const endOfGuests = readClass === "guest" ? this.#boot.guestRead(disk, offset, length) : undefined;
    const end = (took: number): void => {
      endOfGuests?.();
      this.read(disk, readClass, length, took);
    };
    return { readClass, end };
  }

  read(disk: string, readClass: ReadClass, bytes: number, took: number): void {
    this.#options.metrics.read(disk, readClass, bytes, took);
  }

  writeRefused(disk: string, machine: string): void {
    this.#options.metrics.writeRefused(disk);
    const told = `${disk} ${machine}`;
    if (this.#toldRefused.has(told)) return;
    if (this.#toldRefused.size < TOLD_LIMIT) this.#toldRefused.add(told);
    const writer = this.status().disks.find(({ name }) => name === disk)?.writer;
    this.#options.log.error({ disk, machine, writer }, "writes are refused: another machine has taken over");
  }

  written(disk: string, bytes: number, took: number): void {
    this.#options.metrics.written(disk, bytes, took);
  }

  /** Ends what is under way, then the connections, then makes everything durable. What was not answered is sent again by the clients. */
  async close(): Promise<void> {
    this.#listening = false;
    this.#waiting = "ending";
    this.#stopping.abort(new AgentError("NOT_SERVING", "the media agent is ending"));
    const asked = this.#options.clock.now();
    const isUsed = this.#serving?.disks.some(({ exportPath }) => this.nfs.connectionsOf(exportPath) > 0) === true;
    await this.nfs.drain(DRAIN_MS);
    const stopped = Math.max(asked, this.nfs.lastAnswer ?? 0);
    await Promise.all([this.nfs.close(), this.nbd.close()]);
    const { reads, disks = [], source } = this.#serving ?? {};
    // Reads that wait for the repository hold up writes of less than a sector: they end first.
    await reads?.close(this.#stopping.signal.reason);
    this.#peers.close();
    await Promise.all(disks.map(({ overlay }) => overlay.close()));
    await this.#options.state.settled();
    await this.#options.run?.stopped(stopped, isUsed ? "used" : "unused");
    await Promise.all((source?.repositories ?? []).map((repository) => repository.close()));
  }

  /** Gauges over everything that is known now. */
  observeMetrics(): void {
    const { reads } = this.#opened();
    this.#options.metrics.observe({
      status: () => this.status(),
      cache: () => {
        const { bytes, evicted, corrupted } = reads.cache;
        return { bytes, evicted, corrupted, limit: reads.cacheLimit };
      },
      waiting: (reason) => reads.scheduler.waiting(reason),
      running: (reason) => reads.scheduler.running(reason),
      staged: () => reads.tracker.staged,
      cursor: (name) => reads.disks.find((disk) => disk.name === name)?.cursor.position ?? 0,
      nbd: () => this.nbd,
      nfs: () => this.nfs.counters,
    });
  }

  /** Something is gone from the repository: more may go, and the pin is looked for at once. */
  #missed(): void {
    if (this.#isMissing) return;
    this.#isMissing = true;
    this.#options.log.error("parts of the backup are gone from the repository");
    this.#hydrate();
    const { snapshot } = this.#options.config;
    if (snapshot.pin && !this.#options.state.current.unpinned) void this.#serving?.pin.check();
  }

  /** Nothing was missing after all, and a pin keeps the rest: a prune that was running has moved what was read just then. */
  #hydrated(): void {
    const { pin, reads, source } = this.#serving ?? {};
    const { lost = 0, cacheFull = true } = reads?.hydrator.progress ?? {};
    if (source?.tree === undefined || pin?.pinned !== true || lost > 0 || cacheFull) return;
    this.#isMissing = false;
    this.#hydrate();
  }

  /** While the backup may vanish, all that the disks need is brought into the cache. */
  #hydrate(): void {
    const { pin, reads } = this.#serving ?? {};
    if (reads === undefined) return;
    const isActive = this.#isMissing || pin?.lost === true;
    if (isActive && reads.hydrator.progress === undefined)
      this.#options.log.error("the backup may vanish: bringing all of it into the cache");
    reads.hydrator.active = isActive;
  }

  #opened(): Serving {
    if (this.#serving === undefined) throw new AgentError("NOT_SERVING", this.#waiting);
    return this.#serving;
  }

  #isLaunchable(): boolean {
    const { reads } = this.#serving ?? {};
    if (reads === undefined) return false;
    const { complete, total, staged } = reads.bootSet;
    const elapsedMs = this.#options.clock.monotonic() - this.#stagingSince;
    return isLaunchable({ complete, total, staged, fetched: reads.scheduler.arrivedBytes, elapsedMs });
  }

  #logBootSet(source: "Profile" | "Structure"): void {
    this.#stagingSince = this.#options.clock.monotonic();
    this.#bootSetSource = source;
    this.#options.log.info({ source }, "staging the boot set");
  }

  async #watchFreeSpace(directory: { free(): Promise<number> }, signal: AbortSignal): Promise<void> {
    for (;;) {
      this.#overlayFree = await directory.free().catch(() => this.#overlayFree);
      await this.#options.clock.sleep(FREE_SPACE_MS, signal);
    }
  }
}
