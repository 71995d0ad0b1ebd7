import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import { LocalBackend } from "../backends/local.ts";
import { openMasterKey } from "../key-file.ts";
import { writeCheapKey } from "./keys.ts";

const run = promisify(execFile);

const PASSWORD = "correct horse";

interface ResticOptions {
  /** restic's old S3 layout instead of its default one. */
  readonly legacyLayout?: boolean;
}

/**
 * A repository made by the real restic, in a directory of its own. Its key is as costly as restic makes them only until it
 * was made: after that, opening it takes no time.
 */
export class ResticRepository {
  readonly directory: string;
  readonly password = PASSWORD;
  readonly #scratch: string;

  private constructor(scratch: string) {
    this.#scratch = scratch;
    this.directory = join(scratch, "repository");
  }

  static async create(version: 1 | 2, options: ResticOptions = {}): Promise<ResticRepository> {
    const repository = new ResticRepository(await mkdtemp(join(tmpdir(), "restic-")));
    await mkdir(repository.directory);
    for (const [path, content] of await template(version, options.legacyLayout === true)) {
      const place = join(repository.directory, path);
      if (content === undefined) await mkdir(place, { recursive: true });
      else await writeFile(place, content, { mode: 0o400 });
    }
    return repository;
  }

  /** What restic wrote to standard output. */
  async restic(args: readonly string[], options: { cwd?: string } = {}): Promise<string> {
    const { stdout } = await run("restic", ["--no-cache", "--repo", this.directory, ...args], {
      cwd: options.cwd ?? this.#scratch,
      env: { ...process.env, RESTIC_PASSWORD: this.password },
      maxBuffer: 256 * 1024 * 1024,
    });
    return stdout;
  }

  /** A file of a snapshot, as restic itself reads it. */
  async dump(snapshot: string, path: string): Promise<Buffer> {
    const { stdout } = await run("restic", ["--no-cache", "--repo", this.directory, "dump", snapshot, path], {
      env: { ...process.env, RESTIC_PASSWORD: this.password },
      encoding: "buffer",
      maxBuffer: 256 * 1024 * 1024,
    });
    return stdout;
  }

  /** Backs up files, given by their path below the snapshot's root, and gives back the snapshot's id. */
  async backUp(files: Readonly<Record<string, Uint8Array>>, args: readonly string[] = []): Promise<string> {
    const source = await mkdtemp(join(this.#scratch, "source-"));
    for (const [path, content] of Object.entries(files)) {
      await mkdir(join(source, path, ".."), { recursive: true });
      await writeFile(join(source, path), content);
    }
    const output = await this.restic(["backup", "--json", ...args, "."], { cwd: source });
    await rm(source, { recursive: true });
    const summary = JSON.parse(output.trim().split("\n").at(-1) ?? "{}") as { snapshot_id: string };
    const listed = JSON.parse(await this.restic(["snapshots", "--json"])) as { id: string }[];
    const id = listed.find((snapshot) => snapshot.id.startsWith(summary.snapshot_id))?.id;
    if (id === undefined) throw new Error(`restic made no snapshot: ${output}`);
    return id;
  }

  /** Paths of all files of a type, for tests that tamper with them. */
  async files(type: string): Promise<string[]> {
    const entries = await readdir(join(this.directory, type), { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  }

  async remove(): Promise<void> {
    await rm(this.#scratch, { recursive: true, force: true });
  }
}

/** The files of a new repository, and undefined for its directories, by their paths. */
type Template = ReadonlyMap<string, Buffer | undefined>;
const templates = new Map<string, Promise<Template>>();

/** A new repository to copy: making one takes a second, which the tests of a process share. */
function template(version: 1 | 2, legacyLayout: boolean): Promise<Template> {
  const name = `${version} ${legacyLayout}`;
  const known = templates.get(name) ?? makeTemplate(version, legacyLayout);
  templates.set(name, known);
  return known;
}

async function makeTemplate(version: 1 | 2, legacyLayout: boolean): Promise<Template> {
  const directory = await mkdtemp(join(tmpdir(), "restic-template-"));
  try {
    const layout = legacyLayout ? ["-o", "local.layout=s3legacy"] : [];
    const args = ["--no-cache", "--repo", directory, ...layout, "init", "--repository-version", String(version)];
    await run("restic", args, { env: { ...process.env, RESTIC_PASSWORD: PASSWORD } });
    const backend = new LocalBackend(directory);
    const [costly] = await backend.list("keys");
    await writeCheapKey(backend, await openMasterKey(backend, PASSWORD), PASSWORD);
    if (costly !== undefined) await backend.remove({ type: "keys", name: costly });
    const files = new Map<string, Buffer | undefined>();
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      files.set(relative(directory, path), entry.isFile() ? await readFile(path) : undefined);
    }
    return files;
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Bytes that neither repeat nor compress, the same for the same seed. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let at = 0; at + 4 <= length; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes.writeInt32LE(state | 0, at);
  }
  return bytes;
}
