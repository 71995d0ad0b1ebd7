import { statfs } from "node:fs/promises";
import type { AgentConfig } from "../api/agent-config.ts";
import type { AgentPhase } from "../api/agent-control.ts";
import type { BootProfile } from "../api/boot-profile.ts";
import type { Clock } from "../base/clock.ts";
import type { ReadClass } from "../disk/block-device.ts";
import { BlockCache } from "../disk/cache/block-cache.ts";
import { isTransient } from "../repository/errors.ts";
import { BlobTracker } from "./blob-tracker.ts";
import { type BootSets, guessBootSets, learnedBootSets } from "./boot-set/choose.ts";
import { BootSetStager } from "./boot-set/stager.ts";
import { CopyStream } from "./copy-stream.ts";
import { AgentError } from "./errors.ts";
import { type ReadImage, readImage } from "./format-image.ts";
import { type HydratedPart, Hydrator } from "./hydrator.ts";
import { LeadStager } from "./lead-stager.ts";
import type { AgentMetrics } from "./metrics.ts";
import type { SharedBlobs } from "./peers/peer-server.ts";
import type { Peers } from "./peers/peers.ts";
import { ReadScheduler } from "./read-scheduler.ts";
import { Readahead } from "./readahead.ts";
import { RelocationCursor } from "./relocation-cursor.ts";
import { RepositoryReader } from "./repository-reader.ts";
import type { RepositorySource } from "./repository-source.ts";
import type { SnapshotDisk } from "./snapshot-disk.ts";

const MIB = 1024 * 1024;
/** Below it the largest blobs (8 MiB) of a few readers would push one another out. */
const CACHE_MINIMUM = 64 * MIB;
/** Of a file system that the cache has to itself, its own tables take some. */
const CACHE_OF_FILE_SYSTEM = 0.93;
const BOOT_SET_OF_CACHE = 0.5;
const LEAD_OF_CACHE = 0.4;
/** Between two savings of the order in which the cache was used. */
const SAVE_USES_MS = 60_000;
/** Of one sequence; a disk may have several. */
const READAHEAD_OF_CACHE = 1 / 64;

/** One disk of the snapshot as it is read. */
export interface ReadDisk extends ReadImage {
  readonly name: string;
  readonly cursor: RelocationCursor;
  readonly copy: CopyStream;
}

export interface ReadPathOptions {
  readonly source: RepositorySource;
  readonly config: AgentConfig;
  readonly cacheDirectory: string;
  readonly clock: Clock;
  readonly metrics: AgentMetrics;
  /** Agents that may be asked for blobs; none unless given. */
  readonly peers?: Pick<Peers, "ask" | "fetched">;
  /** Bytes of each disk that an earlier process has seen relocated. */
  readonly relocated: (disk: string) => number;
  /** A guest's read from the image. */
  readonly onGuestRead: (disk: string, offset: number, length: number, missed: boolean) => void;
  /** Told each time that something turns out to be gone from the repository. */
  readonly onMissing: () => void;
  /** Told each time that what the disks need is in the cache, as far as that is possible. */
  readonly onHydrated: () => void;
}

/** Everything between the overlays and the repository: cache, scheduler, and what is staged. */
export class ReadPath {
  readonly disks: readonly ReadDisk[];
  readonly reader: RepositoryReader;
  readonly scheduler: ReadScheduler;
  readonly cache: BlockCache;
  readonly cacheLimit: number;
  readonly tracker: BlobTracker;
  readonly bootSet: BootSetStager;
  readonly hydrator: Hydrator;
  /** What other agents may have of it. */
  readonly shared: SharedBlobs;
  readonly #lead: LeadStager;
  readonly #options: ReadPathOptions;
  #phase: AgentPhase | undefined;
  /** Somebody copies a disk through the guest's export, whatever the operator knows of it. */
  #isCopied = false;

  private constructor(options: ReadPathOptions, cache: BlockCache, cacheLimit: number, tracker: BlobTracker) {
    const { source, config, clock, metrics, peers, onGuestRead } = options;
    this.#options = options;
    this.cache = cache;
    this.cacheLimit = cacheLimit;
    this.tracker = tracker;
    this.reader = new RepositoryReader(source.blobs, clock, options.onMissing);
    const scheduler = new ReadScheduler({
      slots: config.repositorySlots,
      clock,
      fetch: async (id) => {
        const begun = clock.monotonic();
        const content = await this.reader.read(id);
        peers?.fetched(clock.monotonic() - begun);
        return content;
      },
      ask: (id, reason) => peers?.ask(id, source.blobs.place(id), reason),
      store: async (id, content, reason) => {
        await cache.put(id, content);
        if (cache.has(id)) tracker.stored(id, content.length, reason);
        tracker.prune(cache);
      },
      isTransient,
      observer: metrics,
    });
    this.scheduler = scheduler;
    this.shared = sharedBlobs(source, cache, scheduler);
    const disks = source.disks.map((disk, index) => {
      const name = config.disks[index]?.name ?? "";
      const cursor = new RelocationCursor(options.relocated(name));
      const onRead = (offset: number, length: number, readClass: ReadClass, missed: boolean): void => {
        metrics.imageRead(readClass, missed);
        if (readClass === "guest") {
          onGuestRead(name, offset, length, missed);
          readahead.read(offset, length);
        }
        if (cursor.read(offset, length, readClass)) this.#lead.wake();
      };
      const read = readImage(disk, { cache, scheduler, tracker, onRead });
      const windowBytes = cacheLimit * READAHEAD_OF_CACHE;
      const readahead = new Readahead({ file: read.file, cache, scheduler, windowBytes });
      return { name, cursor, ...read, copy: new CopyStream(disk.size) };
    });
    this.disks = disks;
    const atOnce = config.repositorySlots - 1;
    this.bootSet = new BootSetStager({
      cache,
      scheduler,
      tracker,
      atOnce,
      isWanted: () => !tracker.bootFinished,
    });
    const parts = source.disks.flatMap((disk, index) => hydratedParts(disk, disks[index]?.cursor));
    this.hydrator = new Hydrator({
      ...{ parts, cache, scheduler, isTransient, clock, atOnce },
      onDone: options.onHydrated,
    });
    this.#lead = new LeadStager({
      disks: disks.map(({ order, cursor }) => ({ file: order, cursor })),
      cache,
      scheduler,
      tracker,
      windowBytes: cacheLimit * LEAD_OF_CACHE,
      atOnce,
    });
  }

  /** @throws AgentError CACHE_TOO_SMALL; DiskError CACHE_UNUSABLE */
  static async open(options: ReadPathOptions): Promise<ReadPath> {
    const { config, cacheDirectory } = options;
    const { blocks, bsize } = await statfs(cacheDirectory);
    const limit = Math.min(config.cache.sizeBytes, Math.floor(blocks * bsize * CACHE_OF_FILE_SYSTEM));
    if (limit < CACHE_MINIMUM) {
      throw new AgentError("CACHE_TOO_SMALL", `the cache has ${limit} bytes, less than ${CACHE_MINIMUM}`, {
        hint: "Give the media agent a larger cache: spec.mediaAgent.cache.size.",
      });
    }
    const tracker = new BlobTracker();
    const cache = await BlockCache.open(cacheDirectory, limit, (id) => tracker.rank(id));
    return new ReadPath(options, cache, limit, tracker);
  }

  /** How reads are scheduled from now on. */
  enter(phase: AgentPhase): void {
    if (phase !== this.#phase) this.#isCopied = false;
    this.#phase = phase;
    this.#follow();
  }

  /** Whether a read through the guest's export is a copy's of the whole disk, as a live migration makes it; takes note of it. */
  isCopy(disk: string, offset: number, length: number): boolean {
    const isCopy = this.disks.find(({ name }) => name === disk)?.copy.isCopy(offset, length) ?? false;
    if (isCopy && !this.#isCopied) {
      this.#isCopied = true;
      this.#follow();
    }
    return isCopy;
  }

  /**
   * Stages the boot set, then what the relocation will read, until the signal is aborted; and all there is while the backup may vanish.
   *
   * @param onChosen told where the boot set comes from, before it is staged
   */
  async stage(
    profile: BootProfile | undefined,
    onChosen: (source: "Profile" | "Structure") => void,
    signal: AbortSignal,
  ): Promise<void> {
    const bytes = this.cacheLimit * BOOT_SET_OF_CACHE;
    const { source, sets, unknown } = await learnedBootSets(this.disks, profile, bytes);
    onChosen(source);
    const guess = async (): Promise<void> => {
      const isNeeded = unknown.length > 0 && !this.tracker.bootFinished;
      const guessed: BootSets = isNeeded
        ? await guessBootSets(unknown, bytes / this.disks.length, this.#options.clock)
        : new Map();
      const staging = this.bootSet.run(guessed, signal);
      this.bootSet.chosen = true;
      await staging;
    };
    const hydrating = this.hydrator.run(signal);
    await Promise.all([this.bootSet.run(sets, signal), guess()]);
    this.bootSet.complete = true;
    this.#chooseLead();
    const walks = this.disks.map(({ walk }) => walk(signal, () => this.#lead.wake()));
    await Promise.all([this.#lead.run(signal), this.#saveUses(signal), hydrating, ...walks]);
  }

  async #saveUses(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#options.clock.sleep(SAVE_USES_MS, signal);
      await this.cache.saveUses();
    }
  }

  async close(reason: Error): Promise<void> {
    this.scheduler.close(reason);
    await this.cache.close();
  }

  #follow(): void {
    this.scheduler.relocating = this.#isRelocating;
    this.tracker.bootFinished = this.#phase === "Ready" || this.#phase === "Relocating";
    this.#chooseLead();
  }

  get #isRelocating(): boolean {
    return this.#phase === "Relocating" || (this.#phase === "Ready" && this.#isCopied);
  }

  /**
   * Before the guest runs, nothing but the boot set is staged. While it boots, little else: fetching and decoding at full strength takes
   * from it what a boot needs most, processor and link.
   */
  #chooseLead(): void {
    if (this.#isRelocating) this.#lead.lead = { reason: "lead", pace: "full" };
    else if (this.bootSet.complete && this.#phase === "Ready") this.#lead.lead = { reason: "ahead", pace: "full" };
    else if (this.bootSet.complete && this.#phase === "Booting") this.#lead.lead = { reason: "ahead", pace: "gentle" };
    else this.#lead.lead = undefined;
  }
}

function sharedBlobs({ blobs }: RepositorySource, cache: BlockCache, scheduler: ReadScheduler): SharedBlobs {
  return {
    place: (id) => blobs.place(id),
    has: (id) => cache.has(id),
    read: (id, offset, length) => cache.read(id, offset, length),
    stage: (id) => scheduler.stage(id, "peer"),
    fetching: (id) => scheduler.fetching(id),
    get waiting() {
      return scheduler.waiting("peer");
    },
  };
}

/**
 * What has to be kept of a disk. A raw one in the order of its relocation; of another format every blob of its files, as its tables and
 * headers are needed as much as its data.
 */
function hydratedParts({ format, files }: SnapshotDisk, cursor = new RelocationCursor()): HydratedPart[] {
  return files.map((file) => ({ file, cursor: format === "raw" ? cursor : new RelocationCursor() }));
}
