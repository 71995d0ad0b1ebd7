import { execFile } from "node:child_process";
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { link, lstat, mkdir, open, readdir, readFile, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { crc32 } from "../../src/base/crc32.ts";

const run = promisify(execFile);
const SECTOR = 512;
const ZEROS = Buffer.alloc(SECTOR);
/** As in claim-faults.c. */
const RECORD = 48;
const CONTROL = { bytes: 20, shortPermille: 0, writeFails: 4, syncFails: 8, seed: 12, failed: 16 };
const KIND = { changed: 1, begun: 2, synced: 3, syncFailed: 4, created: 5, renamed: 6, removed: 7 };
/** In the place of an inode: the claim itself. */
const DIRECTORY = 0;

/** What a sector was before something was written over it that no sync has covered. */
interface Version {
  readonly position: number;
  /** Undefined: beyond the file's end. */
  readonly content: Buffer | undefined;
  /** A sync that should have written what came in its place has failed: no later one does. */
  isLost: boolean;
}

interface FileChanges {
  /** By sector, oldest first. */
  readonly sectors: Map<number, Version[]>;
  /** Sizes before changes, oldest first. */
  sizes: { readonly position: number; readonly size: number }[];
}

interface NameChange {
  readonly position: number;
  readonly kind: "created" | "renamed" | "removed";
  readonly name: string;
  /** Of a renamed file. */
  readonly to: string;
  readonly file: number;
}

interface LogRecord {
  readonly position: number;
  readonly kind: number;
  readonly file: number;
  readonly at: number;
  readonly length: number;
  readonly size: number;
  readonly bytes: Buffer;
}

/**
 * A claim of a real agent whose calls go through claim-faults.c: it can lose power, fail, and take less than it is given. What is
 * durable follows the rules of `SimulatedDirectory`: bytes once their file was synced, names once the directory was, each by a sync
 * that began after them; of the rest any part may stay, sector by sector and name by name.
 */
export class ClaimFaults {
  /** Where the overlay lies. */
  readonly claim: string;
  readonly #state: string;
  /** What the log told so far, in bytes. */
  #position = 0;
  /** Both by inode. */
  readonly #files = new Map<number, FileChanges>();
  #durableNames = new Map<string, number>();
  #names = new Map<string, number>();
  #nameChanges: NameChange[] = [];

  private constructor(directory: string) {
    this.claim = join(directory, "claim");
    this.#state = join(directory, "faults");
  }

  /** @param directory an empty one, which the caller removes */
  static async create(directory: string, seed: number): Promise<ClaimFaults> {
    const made = new ClaimFaults(directory);
    const state = made.#state;
    await mkdir(made.claim);
    await mkdir(join(state, "kept"), { recursive: true });
    const control = Buffer.alloc(CONTROL.bytes);
    control.writeUInt32LE(seed, CONTROL.seed);
    await writeFile(join(state, "control"), control);
    await writeFile(join(state, "log"), "");
    const source = join(import.meta.dirname, "claim-faults.c");
    await run("gcc", ["-O2", "-shared", "-fPIC", "-o", join(state, "faults.so"), source, "-ldl", "-lpthread"]);
    return made;
  }

  /** For the process that uses the claim. */
  get env(): Readonly<Record<string, string>> {
    const state = this.#state;
    return { LD_PRELOAD: join(state, "faults.so"), CLAIM_FAULTS_CLAIM: this.claim, CLAIM_FAULTS_STATE: state };
  }

  /** So many of a thousand writes take less than they are given, from now on. */
  writeShort(permille: number): Promise<void> {
    return this.#set(CONTROL.shortPermille, permille);
  }

  /** The how manieth write from now fails (1: the next); 0: none does. */
  failWrite(after: number): Promise<void> {
    return this.#set(CONTROL.writeFails, after);
  }

  /** As {@link failWrite}. */
  failSync(after: number): Promise<void> {
    return this.#set(CONTROL.syncFails, after);
  }

  /** Writes and syncs that have failed. */
  async failed(): Promise<number> {
    return (await readFile(join(this.#state, "control"))).readUInt32LE(CONTROL.failed);
  }

  /** Whether a power loss would take anything back, as far as it was told. */
  get isAllDurable(): boolean {
    return this.#nameChanges.length === 0 && [...this.#files.values()].every(({ sectors }) => sectors.size === 0);
  }

  /**
   * To be called whenever the process is gone, before there is another.
   *
   * @throws Error where the claim's names are not those that the log makes of them: then it was changed by calls that were not seen
   */
  async processEnded(): Promise<void> {
    const path = join(this.#state, "log");
    const log = await readFile(path);
    const records = [...parse(log, this.#position)];
    for (const record of records) this.#take(record);
    this.#position += log.length;
    await truncate(path, 0);
    await this.#compareNames(records.at(-1));
  }

  /** @param keep a coin for all that was not durable */
  async powerLoss(keep: () => boolean): Promise<void> {
    await this.processEnded();
    const all = join(this.#state, "all");
    await mkdir(all);
    for (const directory of [this.claim, join(this.#state, "kept")]) {
      for (const [name, file] of await regularFiles(directory)) {
        await rename(join(directory, name), join(all, String(file)));
        // A rename to another name of the same file does nothing.
        await rm(join(directory, name), { force: true });
      }
    }
    for (const [file, changes] of this.#files) await takeBack(join(all, String(file)), changes, keep);
    for (const change of this.#nameChanges) if (keep()) apply(this.#durableNames, change);
    for (const [name, file] of this.#durableNames) await link(join(all, String(file)), join(this.claim, name));
    await rm(all, { recursive: true });
    this.#files.clear();
    this.#nameChanges = [];
    this.#names = new Map(this.#durableNames);
  }

  #take(record: LogRecord): void {
    const { kind, file, at, position } = record;
    if (kind === KIND.changed) this.#change(record);
    if (kind === KIND.synced) this.#sync(file, at);
    if (kind === KIND.syncFailed) this.#failSync(file, at);
    const name = { [KIND.created]: "created", [KIND.renamed]: "renamed", [KIND.removed]: "removed" } as const;
    const what = name[kind];
    if (what === undefined) return;
    const [from = "", to = ""] = record.bytes.toString().split("\0");
    this.#changeName({ position, kind: what, name: from, to, file });
  }

  #changeName(change: NameChange): void {
    apply(this.#names, change);
    this.#nameChanges.push(change);
  }

  #change({ position, file, at, length, size, bytes }: LogRecord): void {
    const changes = this.#files.get(file) ?? { sectors: new Map<number, Version[]>(), sizes: [] };
    this.#files.set(file, changes);
    changes.sizes.push({ position, size });
    for (let done = 0; done < length; done += SECTOR) {
      const content = done < bytes.length ? bytes.subarray(done, done + SECTOR) : undefined;
      const sector = (at + done) / SECTOR;
      const versions = changes.sectors.get(sector);
      const version = { position, content, isLost: false };
      if (versions === undefined) changes.sectors.set(sector, [version]);
      else versions.push(version);
    }
  }

  #sync(file: number, begun: number): void {
    if (file === DIRECTORY) {
      for (const change of this.#nameChanges) if (change.position < begun) apply(this.#durableNames, change);
      this.#nameChanges = this.#nameChanges.filter(({ position }) => position > begun);
      return;
    }
    const changes = this.#files.get(file);
    if (changes === undefined) return;
    changes.sizes = changes.sizes.filter(({ position }) => position > begun);
    for (const [sector, versions] of changes.sectors) {
      const last = versions.findLastIndex(({ position, isLost }) => position < begun && !isLost);
      if (last === versions.length - 1) changes.sectors.delete(sector);
      else versions.splice(0, last + 1);
    }
  }

  #failSync(file: number, begun: number): void {
    for (const versions of this.#files.get(file)?.sectors.values() ?? []) {
      for (const version of versions) if (version.position < begun) version.isLost = true;
    }
  }

  /** The process may have been killed after the last record and before what it tells of, or after making a file and before telling so. */
  async #compareNames(last: LogRecord | undefined): Promise<void> {
    const found = await regularFiles(this.claim);
    const final = this.#nameChanges.at(-1);
    if (!isSame(found, this.#names) && final !== undefined && final.position === last?.position) {
      this.#nameChanges.pop();
      this.#names = new Map(this.#durableNames);
      for (const change of this.#nameChanges) apply(this.#names, change);
    }
    const untold = [...found].filter(([name]) => !this.#names.has(name));
    const [name, file] = untold[0] ?? [];
    if (untold.length === 1 && name !== undefined && file !== undefined) {
      this.#changeName({ position: this.#position, kind: "created", name, to: "", file });
    }
    if (!isSame(found, this.#names)) {
      throw new Error(`the claim holds ${names(found)}, by its log ${names(this.#names)}`);
    }
  }

  async #set(at: number, value: number): Promise<void> {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    const handle = await open(join(this.#state, "control"), "r+");
    await handle.write(bytes, 0, 4, at).finally(() => handle.close());
  }
}

/** Up to one that a kill cut off. */
function* parse(log: Buffer, position: number): Generator<LogRecord> {
  for (let at = 0; at + RECORD <= log.length; ) {
    const number = (offset: number): number => Number(log.readBigUInt64LE(at + offset));
    const end = at + RECORD + number(40);
    if (end > log.length || crc32(log.subarray(at + 4, end)) !== log.readUInt32LE(at)) {
      if (end < log.length) throw new Error(`the log of the claim is damaged at byte ${at}`);
      return;
    }
    const kind = log.readUInt32LE(at + 4);
    const isSync = kind === KIND.synced || kind === KIND.syncFailed;
    yield {
      position: position + at,
      kind,
      file: number(8),
      at: number(16) + (isSync ? position : 0),
      length: number(24),
      size: number(32),
      bytes: log.subarray(at + RECORD, end),
    };
    at = end;
  }
}

async function takeBack(path: string, { sectors, sizes }: FileChanges, keep: () => boolean): Promise<void> {
  const { size } = await stat(path);
  const file = openSync(path, "r+");
  try {
    for (const [sector, versions] of sectors) {
      let back = versions.length;
      while (back > 0 && !keep()) back--;
      const version = versions[back];
      if (version === undefined) continue;
      const content = Buffer.concat([version.content ?? ZEROS, ZEROS]).subarray(0, SECTOR);
      writeSync(file, content, 0, SECTOR, sector * SECTOR);
    }
    const [oldest] = sizes;
    ftruncateSync(file, oldest === undefined || keep() ? size : oldest.size);
  } finally {
    closeSync(file);
  }
}

/** Inodes by name. */
async function regularFiles(directory: string): Promise<Map<string, number>> {
  const files = new Map<string, number>();
  for (const name of await readdir(directory)) {
    const found = await lstat(join(directory, name));
    if (found.isFile()) files.set(name, found.ino);
  }
  return files;
}

function apply(all: Map<string, number>, { kind, name, to, file }: NameChange): void {
  if (kind === "created") all.set(name, file);
  else all.delete(name);
  if (kind === "renamed") all.set(to, file);
}

function isSame(one: ReadonlyMap<string, number>, other: ReadonlyMap<string, number>): boolean {
  return one.size === other.size && [...one].every(([name, file]) => other.get(name) === file);
}

function names(files: ReadonlyMap<string, number>): string {
  return [...files].map(([name, file]) => `${name} (${file})`).join(", ");
}
