import { execFile } from "node:child_process";
import { mkdir, mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { BlockSource, Extent } from "../../disk/block-device.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";

const run = promisify(execFile);

/** A directory for images, made with the tools that make real ones. */
export class ImageWorkshop {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(): Promise<ImageWorkshop> {
    return new ImageWorkshop(await mkdtemp(join(tmpdir(), "images-")));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** What the command wrote to standard output. */
  async run(command: string, ...args: readonly string[]): Promise<string> {
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    const { stdout } = await run(command, args, { env, cwd: this.directory, maxBuffer: 64 * 1024 * 1024 });
    return stdout;
  }

  /** Runs a command with text on its standard input. */
  async feed(input: string, command: string, ...args: readonly string[]): Promise<void> {
    await writeFile(this.path("input"), input);
    const handle = await open(this.path("input"), "r");
    await handle.close();
    await this.run("sh", "-c", `"$@" < input`, "sh", command, ...args);
  }

  async blank(name: string, size: number): Promise<string> {
    await writeFile(this.path(name), "");
    await truncate(this.path(name), size);
    return this.path(name);
  }

  /** A tree of files, below a directory of its own. */
  async tree(name: string, files: Readonly<Record<string, Uint8Array>>): Promise<string> {
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(this.path(name), path)), { recursive: true });
      await writeFile(join(this.path(name), path), content);
    }
    return this.path(name);
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Says of an extent whether every byte of it lies in one of the extents. */
export function coverage(extents: readonly Extent[]): (extent: Extent) => boolean {
  const merged: { start: number; end: number }[] = [];
  for (const { offset, length } of [...extents].sort((a, b) => a.offset - b.offset)) {
    const last = merged.at(-1);
    if (last !== undefined && offset <= last.end) last.end = Math.max(last.end, offset + length);
    else merged.push({ start: offset, end: offset + length });
  }
  return ({ offset, length }) => merged.some(({ start, end }) => start <= offset && offset + length <= end);
}

/** Where each 512 bytes of a file lie, which may be in many pieces. */
export function placesOf(content: Buffer, file: Buffer): Extent[] {
  const sectors = new Map<string, number>();
  for (let at = 0; at < content.length; at += 512) sectors.set(content.toString("latin1", at, at + 16), at);
  const places: Extent[] = [];
  for (let at = 0; at + 16 <= file.length; at += 512) {
    const offset = sectors.get(file.toString("latin1", at, at + 16));
    if (offset !== undefined) places.push({ offset, length: Math.min(512, file.length - at) });
  }
  return places;
}

/** Everything that a generator gives. */
export async function collect<T>(generator: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of generator) all.push(item);
  return all;
}

/** A disk in memory with some of its bytes changed, for fuzzing. */
export function damaged(content: Buffer, changes: readonly (readonly [number, number])[]): BlockSource {
  const source = memorySource(content);
  const changed = new Map(changes.map(([offset, value]) => [offset % content.length, value]));
  return {
    size: source.size,
    extents: source.extents.bind(source),
    async read(offset, length, readClass) {
      const piece = await source.read(offset, length, readClass);
      for (const [at, value] of changed) if (at >= offset && at < offset + length) piece[at - offset] = value;
      return piece;
    },
  };
}
