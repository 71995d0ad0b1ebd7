import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "@jest/globals";
import { ImageDisk } from "../image-disk.ts";
import type { FindFile, ImageFile, ReadRequest } from "../image-file.ts";
import { openImage } from "../open-image.ts";
import type { ImageFormat } from "../virtual-image.ts";

const run = promisify(execFile);
const PIECE = 4096;
/** Images that QEMU writes for one property: each costs half a second of its tools. `make chaos` has more of them. */
export const IMAGE_RUNS = Number(process.env.VMRESTORE_IMAGE_RUNS ?? 2);

export function guestRequest(): ReadRequest {
  return { readClass: "guest", missed: false };
}

/** A file in memory. Runs of zeros are known to it, as they are to a repository; it counts what is read. */
export class MemoryFile implements ImageFile {
  readonly path: string;
  readonly content: Buffer;
  bytesRead = 0;

  constructor(path: string, content: Buffer) {
    this.path = path;
    this.content = content;
  }

  get size(): number {
    return this.content.length;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.content.length)) {
      throw new Error(`[${offset}, +${length}) of ${this.path} was asked for, which has ${this.content.length} bytes`);
    }
    this.bytesRead += length;
    return Buffer.from(this.content.subarray(offset, offset + length));
  }

  extents(offset: number, length: number): { offset: number; length: number; zero: boolean }[] {
    const found: { offset: number; length: number; zero: boolean }[] = [];
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(offset + length, (Math.floor(at / PIECE) + 1) * PIECE);
      const zero = isZero(this.content.subarray(at, end));
      const last = found.at(-1);
      if (last?.zero === zero) last.length += end - at;
      else found.push({ offset: at, length: end - at, zero });
      at = end;
    }
    return found;
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}

/** A directory of images that QEMU's tools write. */
export class ImageFolder {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(): Promise<ImageFolder> {
    return new ImageFolder(await mkdtemp(join(tmpdir(), "formats-")));
  }

  async run(command: string, ...args: readonly string[]): Promise<string> {
    return (await run(command, args, { cwd: this.directory, maxBuffer: 64 * 1024 * 1024 })).stdout;
  }

  /** `qemu-img`, its arguments divided by spaces. */
  async qemuImg(line: string): Promise<void> {
    await this.run("qemu-img", ...line.split(" "));
  }

  /** Runs qemu-io's commands on an image. */
  async qemuIo(name: string, format: string, commands: readonly string[]): Promise<void> {
    if (commands.length === 0) return;
    await this.run("qemu-io", "-f", format, ...commands.flatMap((command) => ["-c", command]), name);
  }

  async write(name: string, content: Uint8Array): Promise<void> {
    await writeFile(join(this.directory, name), content);
  }

  read(name: string): Promise<Buffer> {
    return readFile(join(this.directory, name));
  }

  /** What QEMU reads from an image. */
  async converted(name: string, format: string): Promise<Buffer> {
    await this.qemuImg(`convert -t unsafe -f ${format} -O raw ${name} converted.raw`);
    return this.read("converted.raw");
  }

  async file(name: string): Promise<MemoryFile> {
    return new MemoryFile(`/${name}`, await this.read(name));
  }

  readonly find: FindFile = (path) => this.file(path.slice(1)).catch(() => undefined);

  async open(name: string, format: ImageFormat | "auto"): Promise<ImageDisk> {
    return new ImageDisk(await openImage(await this.file(name), format, this.find, guestRequest()));
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

/**
 * The image is, byte for byte, what it should be: read as a whole and in pieces; what it says is zero is; and whatever is not lies in
 * the ranges that it names.
 */
export async function expectContent(disk: ImageDisk, expected: Buffer): Promise<void> {
  expect(disk.size).toBe(expected.length);
  await expectZeros(disk, expected);
  const whole = await disk.read(0, disk.size, guestRequest());
  expect(firstDifference(whole, expected)).toBeUndefined();
  let state = 1;
  const random = (below: number): number => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
  for (let count = 0; count < 60; count++) {
    const offset = random(disk.size);
    const length = random(Math.min(disk.size - offset, count % 3 === 0 ? 300_000 : 6000)) + 1;
    const read = await disk.read(offset, length, guestRequest());
    expect(firstDifference(read, expected.subarray(offset, offset + length))).toBeUndefined();
  }
  const ranges = await disk.fileRanges(0, disk.size, guestRequest());
  for (const { file, offset, length, diskOffset } of ranges) {
    expect(offset >= 0 && length > 0 && offset + length <= file.size).toBe(true);
    expect(diskOffset >= 0 && diskOffset < disk.size).toBe(true);
  }
  await expectZeros(disk, expected);
}

async function expectZeros(disk: ImageDisk, expected: Buffer): Promise<void> {
  let at = 0;
  for (const { offset, length, zero } of disk.extents(0, disk.size)) {
    expect(offset).toBe(at);
    at += length;
    if (zero) expect(isZero(expected.subarray(offset, offset + length))).toBe(true);
  }
  expect(at).toBe(disk.size);
}

/** Where two buffers begin to differ, for messages that fit on a screen. */
function firstDifference(actual: Buffer, expected: Buffer): string | undefined {
  if (actual.equals(expected)) return undefined;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  return `${actual.length} and ${expected.length} bytes differ at ${at}: ${actual[at]} is not ${expected[at]}`;
}
