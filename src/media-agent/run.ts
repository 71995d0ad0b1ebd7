import { join } from "node:path";
import type { AgentConfig } from "../api/agent-config.ts";
import { systemClock } from "../base/clock.ts";
import { readConfig } from "./configuration.ts";
import { EarlyOpening } from "./early-opening.ts";
import { reserveIoThreads } from "./io-threads.ts";
import type { MediaAgentOptions } from "./options.ts";
import { openBackend, otherAccess, readPassword } from "./repository-access.ts";
import { openPlace, type RepositoryPlace } from "./repository-place.ts";

/** A repository that takes longer until its key file is here does not hold up the servers. */
const KEY_FILE_MS = 1000;

/**
 * Serves the disks of one restore until the signal is aborted; then ends in order. Rejects where it cannot serve: its pod is
 * started again.
 *
 * Of all that it does before the first disk is served, two things take longest: restic's key, made to cost half a second of
 * another thread, and loading this program. So little is loaded before the key is being derived, and the rest meanwhile: while it
 * loads, no answer of the repository is taken note of.
 */
export async function runMediaAgent(options: MediaAgentOptions, signal: AbortSignal): Promise<void> {
  const config = readConfig(options.config);
  reserveIoThreads(config.repositorySlots);
  const places = await repositoryPlaces(config, options);
  const [first, ...others] = places;
  const early = new EarlyOpening((onDeriving) => openPlace(first, config, 0, places.length, onDeriving));
  try {
    await begun(early, signal);
    const { serveRestore } = await import("./serve-restore.ts");
    await serveRestore(options, { config, places: [{ ...first, early }, ...others] }, signal);
  } finally {
    early.close();
  }
}

/** Resolves when the key is being derived, or there is no use in waiting for it any longer. */
async function begun(early: EarlyOpening, signal: AbortSignal): Promise<void> {
  const settled = new AbortController();
  const limit = systemClock.sleep(KEY_FILE_MS, AbortSignal.any([signal, settled.signal])).catch(() => undefined);
  await Promise.race([early.deriving, limit]);
  settled.abort();
}

/** In the order in which the configuration names them: one at least. */
async function repositoryPlaces(
  config: AgentConfig,
  options: MediaAgentOptions,
): Promise<readonly [RepositoryPlace, ...RepositoryPlace[]]> {
  const place = async (of: AgentConfig["repository"], index: number): Promise<RepositoryPlace> => {
    const access = index === 0 ? options : otherAccess(options, index);
    return {
      backend: () => openBackend(of, access, systemClock),
      password: () => readPassword(access),
      // Each keeps the latest index only.
      indexCache: join(options.cacheDir, index === 0 ? "index" : `index-${index}`),
    };
  };
  const others = config.otherRepositories ?? [];
  return [await place(config.repository, 0), ...(await Promise.all(others.map((of, at) => place(of, at + 1))))];
}
