import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { AgentStatus } from "../api/agent-control.ts";
import type { ReadClass } from "../disk/block-device.ts";
import type { DiskObserver } from "./exported-disk.ts";
import type { PeersObserver } from "./peers/peers.ts";
import { READ_REASONS, type ReadReason } from "./read-queue.ts";
import type { SchedulerObserver } from "./read-scheduler.ts";

/** Seconds: from a hit in the cache to a repository that was away. */
const LATENCY_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

type StagedSet = "boot" | "lead";

/** What is read off when somebody asks for the metrics. */
export interface MetricsSources {
  status(): AgentStatus;
  cache(): { readonly bytes: number; readonly limit: number; readonly evicted: number; readonly corrupted: number };
  waiting(reason: ReadReason): number;
  running(reason: ReadReason): number;
  /** Of the boot set, and of the relocation's lead; bytes. */
  staged(): {
    readonly unread: Readonly<Record<StagedSet, number>>;
    readonly read: Readonly<Record<StagedSet, number>>;
  };
  /** Where the copy of a disk has come to. */
  cursor(disk: string): number;
  nbd(): { readonly refused: number };
  nfs(): { readonly refused: number; readonly putOff: number; readonly abandoned: number };
}

/** The media agent's metrics, all of them `vmrestore_agent_…`. Names of disks are labels; nothing secret is. */
export class AgentMetrics implements SchedulerObserver, DiskObserver, PeersObserver {
  readonly registry = new Registry();
  readonly #reads = this.#counter("disk_reads_total", "Reads of clients", ["disk", "class"]);
  readonly #readBytes = this.#counter("disk_read_bytes_total", "Bytes that clients read", ["disk", "class"]);
  readonly #writes = this.#counter("disk_writes_total", "Writes of clients", ["disk"]);
  readonly #writtenBytes = this.#counter("disk_written_bytes_total", "Bytes that clients wrote", ["disk"]);
  readonly #refusedWrites = this.#counter(
    "disk_refused_writes_total",
    "Writes refused because a later mount writes to the disk",
    ["disk"],
  );
  readonly #readSeconds = this.#histogram("disk_read_seconds", "From a client's read to its data", ["class"]);
  readonly #writeSeconds = this.#histogram("disk_write_seconds", "From a client's write to its end", []);
  readonly #imageReads = this.#counter("image_reads_total", "Reads of the backup's images, by where the data was", [
    "class",
    "result",
  ]);
  readonly #fetches = this.#counter("repository_fetches_total", "Blobs asked of the repository", ["reason", "result"]);
  readonly #fetchedBytes = this.#counter("repository_blob_bytes_total", "Plain bytes of fetched blobs", ["reason"]);
  readonly #waitSeconds = this.#histogram("repository_wait_seconds", "How long a blob waited for a slot", ["reason"]);
  readonly #fetchSeconds = this.#histogram("repository_fetch_seconds", "How long the repository took", ["reason"]);
  readonly #joins = this.#counter(
    "repository_joined_total",
    "Demand reads whose blob was under way already, by what had asked for it",
    ["reason"],
  );

  readonly #taken = this.#counter("peer_blobs_taken_total", "Blobs that came from other agents", []);
  readonly #takenBytes = this.#counter("peer_taken_bytes_total", "Plain bytes of those", []);
  readonly #notTaken = this.#counter(
    "peer_not_taken_total",
    "Blobs that another agent was asked for and did not give",
    ["reason"],
  );
  readonly #given = this.#counter("peer_blobs_given_total", "Blobs that other agents were given", []);
  readonly #givenBytes = this.#counter("peer_given_bytes_total", "Plain bytes of those", []);
  /** Plain bytes of blobs that came from other agents, and that they were given. */
  bytesTaken = 0;
  bytesGiven = 0;

  constructor() {
    collectDefaultMetrics({ register: this.registry, prefix: "vmrestore_agent_" });
  }

  read(disk: string, readClass: ReadClass, bytes: number, took: number): void {
    this.#reads.inc({ disk, class: readClass });
    this.#readBytes.inc({ disk, class: readClass }, bytes);
    this.#readSeconds.observe({ class: readClass }, took);
  }

  written(disk: string, bytes: number, took: number): void {
    this.#writes.inc({ disk });
    this.#writtenBytes.inc({ disk }, bytes);
    this.#writeSeconds.observe(took);
  }

  writeRefused(disk: string): void {
    this.#refusedWrites.inc({ disk });
  }

  imageRead(readClass: ReadClass, missed: boolean): void {
    this.#imageReads.inc({ class: readClass, result: missed ? "miss" : "hit" });
  }

  started(reason: ReadReason, waited: number): void {
    this.#waitSeconds.observe({ reason }, waited / 1000);
  }

  finished(reason: ReadReason, took: number, bytes: number | undefined): void {
    this.#fetches.inc({ reason, result: bytes === undefined ? "failure" : "success" });
    this.#fetchSeconds.observe({ reason }, took / 1000);
    if (bytes !== undefined) this.#fetchedBytes.inc({ reason }, bytes);
  }

  joined(reason: ReadReason): void {
    this.#joins.inc({ reason });
  }

  taken(bytes: number): void {
    this.bytesTaken += bytes;
    this.#taken.inc();
    this.#takenBytes.inc(bytes);
  }

  notTaken(code: string): void {
    this.#notTaken.inc({ reason: code });
  }

  given(bytes: number): void {
    this.bytesGiven += bytes;
    this.#given.inc();
    this.#givenBytes.inc(bytes);
  }

  /** Gauges over what the agent knows anyway. Call it once, when it serves. */
  observe(sources: MetricsSources): void {
    const { status, cache } = sources;
    this.#gauge("repository_reachable", "1 while the repository answers", () => +status().repository.reachable);
    this.#gauge(
      "repository_longest_wait_seconds",
      "How long the oldest read under way has waited for what is not cached",
      () => (status().repository.longestWait ?? 0) / 1000,
    );
    this.#gauge(
      "repository_fetched_bytes",
      "Bytes of packs read since the start",
      () => status().repository.bytesFetched,
    );
    this.#gauge("snapshot_pinned", "1 while a pin keeps the snapshot's data", () => +status().repository.pinned);
    const hydration = (): AgentStatus["repository"]["hydration"] => status().repository.hydration;
    this.#gauge("hydration_needed_bytes", "What the disks need of a backup that may vanish, else 0", () => {
      return hydration()?.needed ?? 0;
    });
    this.#gauge(
      "hydration_safe_bytes",
      "Of that, what is in the cache and outlasts a power failure",
      () => hydration()?.safe ?? 0,
    );
    this.#gauge("hydration_lost_bytes", "Of that, what is gone for good", () => hydration()?.lost ?? 0);
    this.#gauge("cache_bytes", "Bytes in the cache", () => cache().bytes);
    this.#gauge("cache_limit_bytes", "Bytes that the cache may take", () => cache().limit);
    this.#total("cache_evicted_total", "Blobs evicted", () => cache().evicted);
    this.#total("cache_corrupted_total", "Blobs dropped for a wrong checksum", () => cache().corrupted);
    this.#gauge("boot_set_bytes", "Bytes of the boot set", () => status().bootSet.bytes);
    this.#gauge("boot_set_staged_bytes", "Bytes of the boot set that are staged", () => status().bootSet.staged);
    this.#gauge("boot_guest_reads", "Guest reads while booting", () => status().bootSet.guestReads);
    this.#gauge("boot_guest_hits", "Those that found their data here", () => status().bootSet.guestHits);
    this.#gauge("lead_bytes", "Bytes staged for the relocation and not read yet", () => sources.staged().unread.lead);
    this.#gauge("boot_set_unread_bytes", "Bytes of the boot set that no guest has read yet", () => {
      return sources.staged().unread.boot;
    });
    this.#total("boot_set_read_bytes_total", "Bytes of the boot set that a guest has read", () => {
      return sources.staged().read.boot;
    });
    this.#total("lead_read_bytes_total", "Bytes staged for the relocation that it has read", () => {
      return sources.staged().read.lead;
    });
    this.#gauge("overlay_bytes", "Bytes of the overlays", () => status().overlay.bytesUsed);
    this.#gauge("overlay_free_bytes", "Bytes free on the overlay's claim", () => status().overlay.bytesFree);
    this.#gauge("overlay_full", "1 while writes wait for space", () => +status().overlay.full);
    this.#gauge("nfs_connections", "Open NFS connections", () => status().connections.nfs);
    this.#gauge("nbd_connections", "Open NBD connections", () => status().connections.nbd);
    this.#total("nfs_refused_total", "Handles, paths and addresses refused", () => sources.nfs().refused);
    this.#total("nbd_refused_total", "NBD negotiations that failed", () => sources.nbd().refused);
    this.#total("nfs_put_off_total", 'Reads answered with "try later"', () => sources.nfs().putOff);
    this.#total("nfs_abandoned_total", "Connections closed for holding something up", () => sources.nfs().abandoned);
    this.#perDisk(
      "disk_dirty_bytes",
      "Bytes written since the last frozen generation",
      status,
      (disk) => disk.dirtyBytes,
    );
    this.#perDisk("disk_sealed", "1 where writes are refused", status, (disk) => +disk.sealed);
    this.#perDisk(
      "relocation_bytes",
      "Bytes that the first pass looks at",
      status,
      (disk) => disk.relocation?.bytesTotal,
    );
    this.#perDisk("copied_until_bytes", "Where a copy of the disk has come to", status, (disk) =>
      sources.cursor(disk.name),
    );
    this.#perDisk("relocation_durable_bytes", "Those durable at the target", status, (d) => d.relocation?.bytesDurable);
    this.#perDisk("relocation_bytes_per_second", "The relocation's rate", status, (disk) => disk.relocation?.rate);
    this.#perReason("repository_waiting", "Blobs that wait for a slot", (reason) => sources.waiting(reason));
    this.#perReason("repository_running", "Slots in use", (reason) => sources.running(reason));
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name: `vmrestore_agent_${name}`, help, labelNames, registers: [this.registry] });
  }

  #histogram(name: string, help: string, labelNames: string[]): Histogram {
    const names = { name: `vmrestore_agent_${name}`, help, labelNames };
    return new Histogram({ ...names, buckets: LATENCY_BUCKETS, registers: [this.registry] });
  }

  #gauge(name: string, help: string, value: () => number): void {
    const gauge: Gauge = new Gauge({
      name: `vmrestore_agent_${name}`,
      help,
      registers: [this.registry],
      collect: () => gauge.set(value()),
    });
  }

  /** Counts up; what it shows is what something else has counted. */
  #total(name: string, help: string, value: () => number): void {
    const counter: Counter = new Counter({
      name: `vmrestore_agent_${name}`,
      help,
      registers: [this.registry],
      collect: () => {
        counter.reset();
        counter.inc(value());
      },
    });
  }

  #perReason(name: string, help: string, value: (reason: ReadReason) => number): void {
    const gauge: Gauge = new Gauge({
      name: `vmrestore_agent_${name}`,
      help,
      labelNames: ["reason"],
      registers: [this.registry],
      collect: () => {
        for (const reason of READ_REASONS) gauge.set({ reason }, value(reason));
      },
    });
  }

  #perDisk(
    name: string,
    help: string,
    status: () => AgentStatus,
    value: (disk: AgentStatus["disks"][number]) => number | undefined,
  ): void {
    const gauge: Gauge = new Gauge({
      name: `vmrestore_agent_${name}`,
      help,
      labelNames: ["disk"],
      registers: [this.registry],
      collect: () => {
        for (const disk of status().disks) {
          const now = value(disk);
          if (now !== undefined) gauge.set({ disk: disk.name }, now);
        }
      },
    });
  }
}
