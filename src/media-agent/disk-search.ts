import type { SnapshotTree } from "../repository/repository.ts";
import { AgentError } from "./errors.ts";

/** Bounds of the search: a snapshot of a whole file server is no machine's backup. */
const DEPTH_LIMIT = 12;
const DIRECTORY_LIMIT = 2048;
const FOUND_LIMIT = 256;
/** How many paths an error names. */
const NAMED_LIMIT = 8;
/** What is named like an image. */
const IMAGE_FILE = /^.+\.(img|raw|qcow2|vmdk|vhd|vhdx)$/;
const CLAIM_IMAGE = "/disk.img";
const ENDING = /\.(img|raw|qcow2|vmdk|vhd|vhdx)$/;
const PATTERN = /[*?]/;

/** A volume of the machine, and the claim that it was on when it was backed up. */
export interface WantedVolume {
  readonly name: string;
  readonly claim?: string | undefined;
}

/** A volume's file in a snapshot. */
export interface FoundDisk {
  readonly name: string;
  readonly path: string;
}

type Tree = Pick<SnapshotTree, "list">;

/** Whether a path stands for any that fit: `*` and `?` within a name, `**` for directories in between. */
export function isPattern(path: string): boolean {
  return PATTERN.test(path);
}

/**
 * The one file that a path means.
 *
 * @throws AgentError DISKS_NOT_FOUND, DISKS_AMBIGUOUS: they name what was found
 */
export async function resolvePath(tree: Tree, disk: FoundDisk): Promise<string> {
  if (!isPattern(disk.path)) return disk.path;
  const fits = patternOf(disk.path);
  const depth = disk.path.includes("**") ? DEPTH_LIMIT : disk.path.split("/").length - 2;
  const found = (await filesIn(tree, () => true, depth)).filter((path) => fits.test(path));
  const [only] = found;
  if (only === undefined) {
    const there = await filesIn(tree, (name) => IMAGE_FILE.test(name));
    throw notFound(`no file in the snapshot fits ${disk.path}, the path of disk ${disk.name}`, there);
  }
  if (found.length === 1) return only;
  throw ambiguous(`${disk.path}, the path of disk ${disk.name}, fits ${named(found)}`);
}

/**
 * The files of a machine's volumes in a snapshot that knows nothing of machines: one that a backup tool made of the claims. A file is a
 * volume's by its own name or by that of the directory it lies in, each either the volume's or its claim's; where there is one
 * volume and one file, they belong together.
 *
 * @throws AgentError DISKS_NOT_FOUND, DISKS_AMBIGUOUS: they name what was found
 */
export async function findDisks(tree: Tree, volumes: readonly WantedVolume[]): Promise<FoundDisk[]> {
  const files = await filesIn(tree, (name) => IMAGE_FILE.test(name));
  const [onlyVolume] = volumes;
  const [onlyFile] = files;
  if (onlyVolume !== undefined && onlyFile !== undefined && volumes.length === 1 && files.length === 1)
    return [{ name: onlyVolume.name, path: onlyFile }];
  const disks: FoundDisk[] = [];
  const without: string[] = [];
  for (const volume of volumes) {
    const all = files.filter((path) => isOf(path, volume));
    const images = all.filter((path) => path.endsWith(CLAIM_IMAGE));
    // KubeVirt's own name for a disk on a claim goes before others beside it.
    const own = images.length === 1 ? images : all;
    const [path] = own;
    if (own.length > 1) throw ambiguous(`volume ${volume.name} may be ${named(own)}`);
    if (path === undefined) without.push(volume.name);
    else disks.push({ name: volume.name, path });
  }
  if (disks.length === 0 && without.length === 0) throw notFound("it is not known which disks the machine has", files);
  if (without.length > 0)
    throw notFound(`no file in the snapshot is known to be of volume ${without.join(", ")}`, files);
  const twice = disks.find(({ path }, index) => disks.findIndex((disk) => disk.path === path) !== index);
  if (twice !== undefined) throw ambiguous(`${twice.path} may be of several volumes, ${twice.name} among them`);
  return disks;
}

function isOf(path: string, { name, claim }: WantedVolume): boolean {
  const parts = path.split("/");
  const file = parts.at(-1) ?? "";
  const folder = parts.at(-2);
  return [name, claim].some((known) => known !== undefined && (file.replace(ENDING, "") === known || folder === known));
}

/** Paths of files, uppermost first. */
async function filesIn(tree: Tree, fits: (name: string) => boolean, depthLimit = DEPTH_LIMIT): Promise<string[]> {
  const queue: { path: string; depth: number }[] = [{ path: "", depth: 0 }];
  const found: string[] = [];
  for (let seen = 0; seen < DIRECTORY_LIMIT; seen++) {
    const next = queue.shift();
    if (next === undefined) return found;
    for (const { name, kind } of await tree.list(next.path === "" ? "/" : next.path)) {
      const path = `${next.path}/${name}`;
      if (kind === "file" && fits(name)) found.push(path);
      else if (kind === "directory" && next.depth < depthLimit) queue.push({ path, depth: next.depth + 1 });
    }
    if (found.length > FOUND_LIMIT) throw ambiguous(`the snapshot holds too many files, ${named(found)}`);
  }
  throw ambiguous(`the snapshot holds more than ${DIRECTORY_LIMIT} directories`);
}

function patternOf(path: string): RegExp {
  const source = path.replace(/\*\*\/|\*\*|\*|\?|[\\^$.|+()[\]{}]/g, (part) => {
    if (part === "**/") return "(?:[^/]+/)*";
    if (part === "**") return ".*";
    if (part === "*") return "[^/]*";
    return part === "?" ? "[^/]" : `\\${part}`;
  });
  return new RegExp(`^${source}$`, "su");
}

function named(paths: readonly string[]): string {
  const some = paths.slice(0, NAMED_LIMIT).join(", ");
  return paths.length > NAMED_LIMIT ? `${some} and others` : some;
}

function ambiguous(message: string): AgentError {
  return new AgentError("DISKS_AMBIGUOUS", message, {
    hint: "Give each disk its path in the VMRestore: spec.source.disks.",
  });
}

function notFound(message: string, there: readonly string[]): AgentError {
  const found = there.length === 0 ? "It holds no file that is named like a disk's" : `It holds ${named(there)}`;
  return new AgentError("DISKS_NOT_FOUND", message, {
    hint: `${found}. Name the disks and their paths in the VMRestore: spec.source.disks.`,
  });
}
