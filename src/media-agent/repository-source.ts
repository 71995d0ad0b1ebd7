import type { AgentConfig } from "../api/agent-config.ts";
import type { Clock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import type { Backend } from "../repository/backends/backend.ts";
import { Repository, type SnapshotTree } from "../repository/repository.ts";
import { PIN_HOST_PREFIX, type Snapshot } from "../repository/snapshot.ts";
import { AgentError } from "./errors.ts";
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

/** The repository, opened, with the disks of the snapshot. */
export interface RepositorySource {
  readonly repository: Repository;
  readonly tree: SnapshotTree;
  /** In the order of the configuration's. */
  readonly disks: readonly SnapshotDisk[];
}

export interface OpenSourceOptions {
  readonly config: AgentConfig;
  readonly backend: () => Backend | Promise<Backend>;
  readonly password: string;
  /** Where the index is kept for the next start; may be lost at any time. */
  readonly indexCache?: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Told why it waits. */
  readonly onWait: (message: string) => void;
}

/**
 * Opens what the agent serves. Waits, for as long as it takes, while the repository is away; everything else is an error.
 *
 * @throws RepositoryError; DiskError where an image cannot be opened; AgentError DISK_SIZE_MISMATCH
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

async function openOnce({ config, backend, password, indexCache }: OpenSourceOptions): Promise<RepositorySource> {
  const repository = await Repository.open(await backend(), password, { indexCache, expect: config.snapshot.id });
  try {
    const tree = await repository.browse(await findSnapshot(repository, config));
    const nodes = await Promise.all(config.disks.map(({ path }) => tree.file(path)));
    const files = await repository.openFiles(nodes);
    const disks: SnapshotDisk[] = [];
    for (const [index, file] of files.entries()) {
      const { name, size, format } = config.disks[index] ?? {};
      const disk = await openSnapshotDisk(repository, tree, file, format ?? "raw");
      if (disk.size !== size) {
        throw new AgentError("DISK_SIZE_MISMATCH", `${name}: the snapshot's disk has ${disk.size} bytes, not ${size}`, {
          hint: "The restore was prepared for another snapshot.",
        });
      }
      disks.push(disk);
    }
    return { repository, tree, disks };
  } catch (error) {
    await repository.close();
    throw error;
  }
}

/** The snapshot, or this restore's pin of it where it was forgotten meanwhile: the same tree. */
async function findSnapshot(repository: Repository, config: AgentConfig): Promise<Snapshot> {
  try {
    return await repository.snapshot(config.snapshot.id);
  } catch (error) {
    if (errorCode(error) !== "SNAPSHOT_NOT_FOUND") throw error;
    const host = `${PIN_HOST_PREFIX}${config.restore.uid}`;
    const pin = (await repository.snapshots()).find((snapshot) => snapshot.host === host);
    if (pin === undefined) throw error;
    return pin;
  }
}
