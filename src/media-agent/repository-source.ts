import type { AgentConfig } from "../api/agent-config.ts";
import type { Clock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import type { Backend } from "../repository/backends/backend.ts";
import { type FileNode, Repository, type SnapshotTree } from "../repository/repository.ts";
import type { RepositoryFile } from "../repository/repository-file.ts";
import { PIN_HOST_PREFIX, type Snapshot } from "../repository/snapshot.ts";
import { AgentError } from "./errors.ts";
import { RepositoryGroup } from "./repository-group.ts";
import type { BlobRepository } from "./repository-reader.ts";
import { openSnapshotDisk, type SnapshotDisk } from "./snapshot-disk.ts";

const RETRY_MS = 2000;
/** What may mend itself: a volume that is not mounted yet looks like an empty directory, and credentials are changed. */
const PASSING = new Set([
  "REPOSITORY_UNREACHABLE",
  "REPOSITORY_NOT_FOUND",
  "REPOSITORY_OBJECT_MISSING",
  "REPOSITORY_FORBIDDEN",
  "REPOSITORY_UNTRUSTED",
]);

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
  readonly blobs: BlobRepository;
  /** The first one, with the first snapshot's tree: where the machine's manifest is looked for. */
  readonly repository: Repository;
  readonly tree: SnapshotTree;
  readonly repositories: readonly Repository[];
  readonly snapshots: readonly SourceSnapshot[];
  /** In the order of the configuration's. */
  readonly disks: readonly SnapshotDisk[];
}

/** How one repository is reached. */
export interface RepositoryPlace {
  readonly backend: () => Backend | Promise<Backend>;
  readonly password: string;
  /** Where its index is kept for the next start; may be lost at any time. */
  readonly indexCache?: string;
}

export interface OpenSourceOptions {
  readonly config: AgentConfig;
  /** `config.repository` first, then `config.otherRepositories`. */
  readonly places: readonly RepositoryPlace[];
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
      return await openOnce(options);
    } catch (error) {
      if (!PASSING.has(errorCode(error) ?? "")) throw error;
      options.onWait(errorMessage(error));
      options.log.warn({ code: errorCode(error), reason: errorMessage(error) }, "waiting for the repository");
    }
    await options.clock.sleep(RETRY_MS, signal);
  }
}

async function openOnce({ config, places }: OpenSourceOptions): Promise<RepositorySource> {
  const repositories: Repository[] = [];
  try {
    for (const [index, { backend, password, indexCache }] of places.entries()) {
      // A thread for each of several: decoding shares the processors anyway.
      const threads = places.length > 1 ? { threads: 1 } : {};
      const expect = index === 0 ? config.snapshot.id : firstOf(config, index);
      repositories.push(await Repository.open(await backend(), password, { indexCache, expect, ...threads }));
    }
    const snapshots = snapshotsOf(config, repositories);
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
    const [repository] = repositories;
    const [tree] = trees;
    if (repository === undefined || tree === undefined) throw invalid("there is no repository");
    const { length } = disks.filter((disk) => disk !== undefined);
    if (length !== config.disks.length) throw invalid("a disk is of a snapshot that is not named");
    return { blobs: new RepositoryGroup(repositories), repository, tree, repositories, snapshots, disks };
  } catch (error) {
    await Promise.all(repositories.map((repository) => repository.close()));
    throw error;
  }
}

/** The snapshot of a repository that is browsed first. */
function firstOf({ otherSnapshots = [] }: AgentConfig, repository: number): string | undefined {
  return otherSnapshots.find((other) => other.repository === repository)?.id;
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
    const pin = (await repository.snapshots()).find((snapshot) => snapshot.host === `${PIN_HOST_PREFIX}${pinUid}`);
    if (pin === undefined) throw error;
    return pin;
  }
}
