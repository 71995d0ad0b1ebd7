import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { AgentConfig } from "../api/agent-config.ts";
import type { Clock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import { ID_BYTES } from "../repository/blob-id.ts";
import type { FileNode, Repository, SnapshotTree } from "../repository/repository.ts";
import type { RepositoryFile } from "../repository/repository-file.ts";
import type { Snapshot } from "../repository/snapshot.ts";
import { AgentError } from "./errors.ts";
import type { KeptDisks } from "./kept-disks.ts";
import { RepositoryGroup } from "./repository-group.ts";
import { openPlace, type RepositoryPlace } from "./repository-place.ts";
import type { BlobRepository } from "./repository-reader.ts";
import { openSnapshotDisk, type SnapshotDisk } from "./snapshot-disk.ts";

const RETRY_MS = 2000;
/** Looked at between two turns of the event loop. */
const BLOBS_AT_ONCE = 2048;
/** What may mend itself: a volume that is not mounted yet looks like an empty directory, and credentials are changed. */
const PASSING = new Set([
  "REPOSITORY_UNREACHABLE",
  "REPOSITORY_NOT_FOUND",
  "REPOSITORY_OBJECT_MISSING",
  "REPOSITORY_FORBIDDEN",
  "REPOSITORY_WRONG_PASSWORD",
  "REPOSITORY_UNTRUSTED",
]);

/** The snapshot, or what it consists of, was deleted. */
const GONE = new Set(["SNAPSHOT_NOT_FOUND", "REPOSITORY_PACK_MISSING", "REPOSITORY_BLOB_UNKNOWN"]);

/** A snapshot that disks are served from. */
export interface SourceSnapshot {
  readonly id: string;
  readonly repository: Repository;
  /** What its pin is known by: the restore's uid for the first, one derived from it for each of the others. */
  readonly pinUid: string;
}

/** The repositories, opened, with the disks of the snapshots. */
export interface RepositorySource {
  /** All of them as one. */
  readonly blobs: BlobRepository & Pick<RepositoryGroup, "place">;
  /** The first one, with the first snapshot's tree: where the machine's manifest is looked for. */
  readonly repository: Repository;
  /** Undefined where a snapshot is gone from its repository: then the disks are what was known of them before. */
  readonly tree: SnapshotTree | undefined;
  readonly repositories: readonly Repository[];
  readonly snapshots: readonly SourceSnapshot[];
  /** In the order of the configuration's. */
  readonly disks: readonly SnapshotDisk[];
}

export interface OpenSourceOptions {
  readonly config: AgentConfig;
  /** `config.repository` first, then `config.otherRepositories`. */
  readonly places: readonly RepositoryPlace[];
  /** Where it is kept of which blobs the disks are made; may be lost at any time. */
  readonly keptDisks?: KeptDisks;
  readonly clock: Clock;
  readonly log: Logger;
  /** Told why it waits. */
  readonly onWait: (message: string) => void;
}

/**
 * Opens what the agent serves. Waits, for as long as it takes, while the repository is away; everything else is an error.
 *
 * @throws RepositoryError; DiskError where an image cannot be opened; AgentError DISK_SIZE_MISMATCH, CONFIG_INVALID
 */
export async function openSource(options: OpenSourceOptions, signal: AbortSignal): Promise<RepositorySource> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await unlessAborted(openOnce(options), signal);
    } catch (error) {
      if (!PASSING.has(errorCode(error) ?? "")) throw error;
      options.onWait(errorMessage(error));
      options.log.warn({ code: errorCode(error), reason: errorMessage(error) }, "waiting for the repository");
    }
    await options.clock.sleep(RETRY_MS, signal);
  }
}

/** Who is asked to end does not wait for what may hang: it is closed if it ever comes. */
async function unlessAborted(opening: Promise<RepositorySource>, signal: AbortSignal): Promise<RepositorySource> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => {
    reject(signal.reason);
    opening.then(closeAll, () => undefined);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([opening, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function closeAll({ repositories }: Pick<RepositorySource, "repositories">): Promise<void> {
  await Promise.all(repositories.map((repository) => repository.close()));
}

async function openOnce(options: OpenSourceOptions): Promise<RepositorySource> {
  const { config, places } = options;
  const repositories: Repository[] = [];
  try {
    for (const [index, place] of places.entries())
      repositories.push(await (place.early?.take() ?? openPlace(place, config, index, places.length)));
    const [repository] = repositories;
    if (repository === undefined) throw invalid("there is no repository");
    const snapshots = snapshotsOf(config, repositories);
    const { tree, disks } = await openOrRecall(options, snapshots);
    return { blobs: new RepositoryGroup(repositories), repository, tree, repositories, snapshots, disks };
  } catch (error) {
    await closeAll({ repositories });
    throw error;
  }
}

type Opened = Pick<RepositorySource, "tree" | "disks">;

/** Where a snapshot is gone, what was kept of the disks is served, as far as their blobs are to be had. */
async function openOrRecall(
  { config, keptDisks, log }: OpenSourceOptions,
  snapshots: readonly SourceSnapshot[],
): Promise<Opened> {
  try {
    const opened = await openSnapshots(config, snapshots);
    void keptDisks?.save(snapshotIdentity(config), opened.disks);
    return opened;
  } catch (error) {
    if (!GONE.has(errorCode(error) ?? "")) throw error;
    const disks = await keptDisks?.load(snapshotIdentity(config));
    if (disks === undefined || !fits(disks, config)) throw error;
    log.error({ code: errorCode(error), reason: errorMessage(error) }, "serving what was kept of the backup");
    for (const [index, disk] of disks.entries()) {
      const repository = snapshots[config.disks[index]?.snapshot ?? 0]?.repository;
      if (repository !== undefined) await lookFor(repository, disk);
    }
    return { tree: undefined, disks };
  }
}

async function openSnapshots(config: AgentConfig, snapshots: readonly SourceSnapshot[]): Promise<Opened> {
  const trees: SnapshotTree[] = [];
  for (const snapshot of snapshots) trees.push(await snapshot.repository.browse(await findSnapshot(snapshot)));
  const disks: SnapshotDisk[] = [];
  for (const [index, { repository }] of snapshots.entries()) {
    const own = config.disks.filter(({ snapshot = 0 }) => snapshot === index);
    const tree = trees[index];
    if (tree === undefined || own.length === 0) continue;
    // One after the other: each reads a directory, and the lists of large disks' blobs take tens of megabytes.
    const nodes: FileNode[] = [];
    for (const { path } of own) nodes.push(await tree.file(path));
    const files = await repository.openFiles(nodes);
    for (const [at, file] of files.entries()) {
      const disk = own[at];
      if (disk !== undefined) disks[config.disks.indexOf(disk)] = await openDisk(repository, tree, file, disk);
    }
  }
  const [tree] = trees;
  if (tree === undefined) throw invalid("there is no snapshot");
  const { length } = disks.filter((disk) => disk !== undefined);
  if (length !== config.disks.length) throw invalid("a disk is of a snapshot that is not named");
  return { tree, disks };
}

/** What lies under the overlays: another one must never be put there. */
export function snapshotIdentity({ snapshot, otherSnapshots = [] }: AgentConfig): string {
  if (otherSnapshots.length === 0) return snapshot.id;
  const ids = [snapshot.id, ...otherSnapshots.map(({ id }) => id)];
  return createHash("sha256").update(ids.join()).digest("hex");
}

function fits(disks: readonly SnapshotDisk[], config: AgentConfig): boolean {
  const isAsConfigured = ({ size, files }: SnapshotDisk, index: number): boolean =>
    size === config.disks[index]?.size && files[0].path === config.disks[index]?.path;
  return disks.length === config.disks.length && disks.every(isAsConfigured);
}

/** Lets the repository find out where the disk's blobs lie that it still has. */
async function lookFor(repository: Repository, { files }: SnapshotDisk): Promise<void> {
  for (const file of files) {
    const content = new Uint8Array(file.blobCount * ID_BYTES);
    for (let index = 0; index < file.blobCount; index++) {
      content.set(Buffer.from(file.blob(index).id, "hex"), index * ID_BYTES);
      if (index % BLOBS_AT_ONCE === 0) await nextTurn();
    }
    await repository.openFiles([{ path: file.path, size: file.size, content }]).catch((error: unknown) => {
      if (!GONE.has(errorCode(error) ?? "")) throw error;
    });
  }
}

/** @throws AgentError DISK_SIZE_MISMATCH */
async function openDisk(
  repository: Repository,
  tree: SnapshotTree,
  file: RepositoryFile,
  { name, size, format }: AgentConfig["disks"][number],
): Promise<SnapshotDisk> {
  const disk = await openSnapshotDisk(repository, tree, file, format);
  if (disk.size === size) return disk;
  throw new AgentError("DISK_SIZE_MISMATCH", `${name}: the snapshot's disk has ${disk.size} bytes, not ${size}`, {
    hint: "The restore was prepared for another snapshot.",
  });
}

/** @throws AgentError CONFIG_INVALID */
function snapshotsOf(config: AgentConfig, repositories: readonly Repository[]): SourceSnapshot[] {
  const { uid } = config.restore;
  return [{ id: config.snapshot.id, repository: 0 }, ...(config.otherSnapshots ?? [])].map(
    ({ id, repository: at }, index) => {
      const repository = repositories[at];
      if (repository === undefined) throw invalid(`there is no repository ${at}`);
      return { id, repository, pinUid: index === 0 ? uid : `${uid}-${index}` };
    },
  );
}

function invalid(message: string): AgentError {
  return new AgentError("CONFIG_INVALID", message);
}

/** The snapshot, or this restore's pin of it where it was forgotten meanwhile: the same tree. */
async function findSnapshot({ id, repository, pinUid }: SourceSnapshot): Promise<Snapshot> {
  try {
    return await repository.snapshot(id);
  } catch (error) {
    if (errorCode(error) !== "SNAPSHOT_NOT_FOUND") throw error;
    const pin = await repository.pinOf(pinUid);
    if (pin === undefined) throw error;
    return pin;
  }
}
