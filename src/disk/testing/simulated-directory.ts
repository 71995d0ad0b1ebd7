import { type FileStep, stepByStep } from "../overlay/file-steps.ts";
import type { OverlayDirectory, OverlayFile } from "../overlay/files.ts";
import { SimulatedFile } from "./simulated-file.ts";

/** The machine or the process went down: every operation of that time rejects with it from then on. */
export class WentDown extends Error {}

/** As Node reports it. */
class SystemError extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

/**
 * What goes wrong, in which of the operations from now on, counted from 0. `down`: that one and all later ones do not come about. `EIO`:
 * that one fails, after any part of it. `ENOSPC`: that one and those after it, `times` of them, find no space, after any part of
 * them.
 */
export type Fault =
  | { readonly kind: "down" | "EIO"; readonly after: number }
  | { readonly kind: "ENOSPC"; readonly after: number; readonly times: number };

type NameChange =
  | { readonly kind: "create"; readonly name: string; readonly file: SimulatedFile }
  | { readonly kind: "rename"; readonly from: string; readonly to: string; readonly file: SimulatedFile }
  | { readonly kind: "remove"; readonly name: string };

/**
 * A directory on a disk that forgets. What is written is durable once its file is synced, names once the directory is; a power
 * loss keeps any part of the rest: any of the 512-byte sectors, in any of the versions that they had since the sync, and any of the
 * changes of names, each whole. Every operation counts, so a test can let each one fail.
 */
export class SimulatedDirectory implements OverlayDirectory {
  readonly #pick: () => boolean;
  #names = new Map<string, SimulatedFile>();
  #durableNames = new Map<string, SimulatedFile>();
  /** Changes of names that were not synced, in order. */
  #changes: NameChange[] = [];
  #incarnation = 0;
  /** Operations since {@link fault} was set. */
  #count = 0;
  #fault: Fault | undefined;
  #open = 0;
  operations = 0;
  /** Bytes that all files may take, or undefined for no limit. Writing in place takes none. */
  limit: number | undefined;
  /** Makes every sync fail from now on. */
  failSyncs = false;

  /** @param pick a coin that decides whatever is left to chance */
  constructor(pick: () => boolean = () => false) {
    this.#pick = pick;
  }

  set fault(fault: Fault | undefined) {
    this.#fault = fault;
    this.#count = 0;
  }

  /** Files that were opened in this life and not closed. */
  get openFiles(): number {
    return this.#open;
  }

  /** For tests that look at, or change, a file from outside. */
  file(name: string): SimulatedFile {
    const found = this.#names.get(name);
    if (found === undefined) throw new Error(`there is no ${name}`);
    return found;
  }

  names(): string[] {
    return [...this.#names.keys()];
  }

  /** A file is gone, as if somebody had deleted it. */
  lose(name: string): void {
    this.#names.delete(name);
    this.#durableNames.delete(name);
  }

  /** The power goes and comes back. Whoever used the directory before can do nothing any more. */
  powerLoss(): void {
    this.processDeath();
    for (const change of this.#changes) if (this.#pick()) apply(this.#durableNames, change);
    this.#changes = [];
    for (const file of new Set([...this.#names.values(), ...this.#durableNames.values()])) file.powerLoss(this.#pick);
    this.#names = new Map(this.#durableNames);
  }

  /** Only the process dies: the page cache stays. */
  processDeath(): void {
    this.#incarnation++;
    this.#open = 0;
    this.#fault = undefined;
  }

  /** The directory as one process sees it: dead with that process. */
  mount(): OverlayDirectory {
    const life = this.#incarnation;
    return {
      open: (name) => this.#openFile(life, name),
      exists: (name) => this.#do(life, () => this.#names.has(name)),
      list: () => this.#do(life, () => this.names()),
      rename: (from, to) => this.#do(life, () => this.#change({ kind: "rename", from, to, file: this.file(from) })),
      remove: (name) => this.#do(life, () => this.#change({ kind: "remove", name })),
      sync: () =>
        this.#do(life, () => {
          this.#durableNames = new Map(this.#names);
          this.#changes = [];
        }),
      inOrder: stepByStep,
      free: async () => (this.limit === undefined ? Number.MAX_SAFE_INTEGER : Math.max(0, this.limit - this.#used())),
    };
  }

  open(name: string): Promise<OverlayFile> {
    return this.mount().open(name);
  }

  exists(name: string): Promise<boolean> {
    return this.mount().exists(name);
  }

  list(): Promise<string[]> {
    return this.mount().list();
  }

  rename(from: string, to: string): Promise<void> {
    return this.mount().rename(from, to);
  }

  remove(name: string): Promise<void> {
    return this.mount().remove(name);
  }

  sync(): Promise<void> {
    return this.mount().sync();
  }

  inOrder(steps: readonly FileStep[]): Promise<void> {
    return stepByStep(steps);
  }

  free(): Promise<number> {
    return this.mount().free();
  }

  async #openFile(life: number, name: string): Promise<OverlayFile> {
    const fault = await this.#step(life);
    if (fault === "EIO" || (fault === "ENOSPC" && !this.#names.has(name))) throw new SystemError(fault);
    if (!this.#names.has(name)) this.#change({ kind: "create", name, file: new SimulatedFile() });
    const file = this.file(name);
    this.#open++;
    let isOpen = true;
    return {
      get size() {
        return file.size;
      },
      read: async (into, offset) => {
        if ((await this.#step(life)) === "EIO") throw new SystemError("EIO");
        file.read(into, offset);
      },
      write: async (bytes, offset) => {
        const fault = await this.#step(life);
        const room = this.limit === undefined ? undefined : this.limit - this.#used();
        const fits = fault === undefined ? file.fitting(offset, bytes.length, room) : this.#part(bytes.length);
        file.write(bytes.subarray(0, fits), offset, this.#pick);
        if (fault !== undefined || fits < bytes.length) throw new SystemError(fault ?? "ENOSPC");
      },
      truncate: async (size) => {
        if ((await this.#step(life)) === "EIO") throw new SystemError("EIO");
        file.truncate(size);
      },
      datasync: async () => {
        const fault = (await this.#step(life)) ?? (this.failSyncs ? "EIO" : undefined);
        if (fault === undefined) return file.sync();
        file.failSync(this.#pick);
        throw new SystemError(fault);
      },
      close: async () => {
        if (isOpen && life === this.#incarnation) this.#open--;
        isOpen = false;
      },
    };
  }

  async #do<T>(life: number, body: () => T): Promise<T> {
    if ((await this.#step(life)) === "EIO") throw new SystemError("EIO");
    return body();
  }

  #change(change: NameChange): void {
    apply(this.#names, change);
    this.#changes.push(change);
  }

  #used(): number {
    let bytes = 0;
    for (const file of this.#names.values()) bytes += file.allocated;
    return bytes;
  }

  /** Any number of bytes less than all of them. */
  #part(length: number): number {
    let part = 0;
    while (part + 512 < length && this.#pick()) part += 512;
    return part;
  }

  /** What goes wrong with this operation. */
  async #step(life: number): Promise<"EIO" | "ENOSPC" | undefined> {
    await Promise.resolve();
    if (life !== this.#incarnation) throw new WentDown();
    this.operations++;
    const fault = this.#fault;
    if (fault === undefined) return undefined;
    const at = this.#count++ - fault.after;
    if (at < 0) return undefined;
    if (fault.kind === "down") throw new WentDown();
    if (fault.kind === "ENOSPC") return at < fault.times ? "ENOSPC" : undefined;
    return at === 0 ? "EIO" : undefined;
  }
}

function apply(names: Map<string, SimulatedFile>, change: NameChange): void {
  switch (change.kind) {
    case "create":
      names.set(change.name, change.file);
      return;
    case "rename":
      names.delete(change.from);
      names.set(change.to, change.file);
      return;
    case "remove":
      names.delete(change.name);
  }
}
