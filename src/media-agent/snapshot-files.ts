import type { MachineState, StateListing } from "../api/machine-state.ts";
import type { SnapshotTree } from "../repository/repository.ts";
import { AgentError } from "./errors.ts";
import { listState, readState } from "./machine-state.ts";
import type { RepositorySource } from "./repository-source.ts";
import { findLayout, readManifest, readObjects, type SnapshotLayout } from "./snapshot-layout.ts";

/**
 * What lies beside the disks in a snapshot. The operator asks again and again, and a repository may be far away: what was read once, but for
 * the machine's state, which is large, is kept. All of it is hostile until whoever uses it has checked it.
 */
export class SnapshotFiles {
  readonly #source: Pick<RepositorySource, "tree" | "repository">;
  readonly #snapshot: string;
  readonly #read = new Map<string, Promise<unknown>>();

  /** @param snapshot the id, for people */
  constructor(source: Pick<RepositorySource, "tree" | "repository">, snapshot: string) {
    this.#source = source;
    this.#snapshot = snapshot;
  }

  /** Undefined where there is none. @throws AgentError NOT_FOUND where the snapshot is gone, as all of these do */
  async manifest(): Promise<unknown> {
    const { repository } = this.#source;
    return this.#once("manifest", async () => {
      const path = (await this.#layout())?.manifestPath;
      if (path === undefined) return undefined;
      return (await readManifest(this.#tree(), repository.readFile.bind(repository), path)).content;
    });
  }

  /** What lies beside the manifest. */
  async objects(): Promise<unknown[]> {
    const { repository } = this.#source;
    return this.#once("objects", async () => {
      const paths = (await this.#layout())?.objects ?? [];
      return readObjects(this.#tree(), repository.readFile.bind(repository), paths);
    });
  }

  async stateFiles(): Promise<StateListing> {
    return this.#once("state files", async () => listState(this.#tree(), (await this.#layout())?.manifestPath));
  }

  async machineState(): Promise<MachineState> {
    const { repository } = this.#source;
    return readState(this.#tree(), repository.readFile.bind(repository), (await this.#layout())?.manifestPath);
  }

  #tree(): SnapshotTree {
    const { tree } = this.#source;
    if (tree !== undefined) return tree;
    throw new AgentError("NOT_FOUND", `snapshot ${this.#snapshot} is gone, and its files with it`);
  }

  #layout(): Promise<SnapshotLayout | undefined> {
    return this.#once("layout", async () => findLayout(this.#tree()));
  }

  /** Reads it, unless it was read before. What failed is read again. */
  #once<T>(what: string, read: () => Promise<T>): Promise<T> {
    const known = this.#read.get(what) as Promise<T> | undefined;
    if (known !== undefined) return known;
    const reading = read();
    this.#read.set(what, reading);
    reading.catch(() => this.#read.delete(what));
    return reading;
  }
}
