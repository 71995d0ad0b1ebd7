import type { AgentConfig } from "../api/agent-config.ts";
import type { Backend } from "../repository/backends/backend.ts";
import { Repository } from "../repository/repository.ts";
import type { EarlyOpening } from "./early-opening.ts";

/** How one repository is reached. */
export interface RepositoryPlace {
  readonly backend: () => Backend | Promise<Backend>;
  /** Asked for at each attempt to open it: it may be changed meanwhile. */
  readonly password: () => string | Promise<string>;
  /** Where its index is kept for the next start; may be lost at any time. */
  readonly indexCache?: string;
  /** A first attempt to open it, begun already. */
  readonly early?: EarlyOpening;
}

/**
 * Opens the repository of that index of the configuration, and begins to read what will be asked of it first.
 *
 * @param count repositories in all
 * @param onDeriving told when its key is being derived
 * @throws RepositoryError as {@link Repository.open}
 */
export async function openPlace(
  { backend, password, indexCache }: RepositoryPlace,
  { snapshot, otherSnapshots = [] }: Pick<AgentConfig, "snapshot" | "otherSnapshots">,
  index: number,
  count: number,
  onDeriving?: () => void,
): Promise<Repository> {
  const browsed = index === 0 ? snapshot : otherSnapshots.find((other) => other.repository === index);
  // A thread for each of several: decoding shares the processors anyway.
  const threads = count > 1 ? { threads: 1 } : {};
  const options = { indexCache, expect: browsed?.id, ...threads, ...(onDeriving === undefined ? {} : { onDeriving }) };
  return Repository.open(await backend(), await password(), options);
}
