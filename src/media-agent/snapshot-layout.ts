import * as z from "zod";
import { errorMessage } from "../base/errors.ts";
import type { DirectoryEntry, FileNode, SnapshotTree } from "../repository/repository.ts";
import type { WantedVolume } from "./disk-search.ts";
import { AgentError } from "./errors.ts";

/** Bounds of the search: a snapshot of a whole file server is no machine's backup. */
const DEPTH_LIMIT = 12;
const DIRECTORY_LIMIT = 512;
const MANIFEST_LIMIT = 512 * 1024;
/** Files of objects that the machine refers to, and what may be read of them in all. */
const OBJECT_FILE = /\.(ya?ml|json)$/;
const OBJECTS_LIMIT = 64;
const OBJECT_LIMIT = 2 * 1024 * 1024;
const OBJECTS_BYTES = 8 * 1024 * 1024;
/** A volume's name and an ending that tells what the file is; `.img` and `.raw` are raw disks. */
const DISK_FILE = /^(.+)\.(img|raw|qcow2|vmdk|vhd|vhdx)$/;

const manifestFile = z.object({
  kind: z.literal("VirtualMachine"),
  metadata: z.object({ name: z.string().min(1).max(253) }),
  spec: z.object({
    template: z.object({
      spec: z.object({
        volumes: z
          .array(
            z.object({
              name: z.string().min(1).max(63),
              persistentVolumeClaim: z.object({ claimName: z.string().max(253) }).optional(),
              dataVolume: z.object({ name: z.string().max(253) }).optional(),
            }),
          )
          .max(256)
          .default([]),
      }),
    }),
  }),
});

/**
 * The folder of a machine's backup: `<root>/virtualmachine.yaml` (or .json), `<root>/disks/<volume>.img` (or another ending), and
 * `<root>/objects/*.yaml` (or .json): what the machine refers to, one Kubernetes object a file.
 */
export interface SnapshotLayout {
  /** Path of the manifest, where there is one. */
  readonly manifestPath: string | undefined;
  /** Volume name and path of each disk file, by name. */
  readonly disks: readonly { readonly name: string; readonly path: string }[];
  /** Paths of the objects' files. */
  readonly objects: readonly string[];
}

/** A VirtualMachine manifest out of a backup. Hostile: whoever applies it takes over only the fields it knows. */
export interface SnapshotManifest {
  readonly name: string;
  readonly volumes: readonly string[];
  /** Those of them that are on claims: the machine's disks. */
  readonly disks: readonly WantedVolume[];
  readonly content: unknown;
}

/**
 * Looks for the folder that holds a machine's backup, breadth first, so that the uppermost is found. Undefined where none is.
 */
export async function findLayout(tree: Pick<SnapshotTree, "list">): Promise<SnapshotLayout | undefined> {
  const queue: { path: string; depth: number }[] = [{ path: "/", depth: 0 }];
  for (let seen = 0; seen < DIRECTORY_LIMIT; seen++) {
    const next = queue.shift();
    if (next === undefined) return undefined;
    const entries = await tree.list(next.path);
    const layout = await layoutIn(tree, next.path, entries);
    if (layout !== undefined) return layout;
    if (next.depth === DEPTH_LIMIT) continue;
    for (const { name, kind } of entries) {
      if (kind === "directory") queue.push({ path: join(next.path, name), depth: next.depth + 1 });
    }
  }
  return undefined;
}

async function layoutIn(
  tree: Pick<SnapshotTree, "list">,
  path: string,
  entries: readonly DirectoryEntry[],
): Promise<SnapshotLayout | undefined> {
  const manifest = ["virtualmachine.yaml", "virtualmachine.yml", "virtualmachine.json"].find((name) =>
    entries.some((entry) => entry.name === name && entry.kind === "file"),
  );
  const folder = join(path, "disks");
  const hasFolder = entries.some(({ name, kind }) => name === "disks" && kind === "directory");
  const disks = (hasFolder ? await tree.list(folder) : [])
    .filter(({ kind }) => kind === "file")
    .flatMap(({ name }) => {
      const volume = DISK_FILE.exec(name)?.[1];
      return volume === undefined ? [] : [{ name: volume, path: join(folder, name) }];
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  if (manifest === undefined && disks.length === 0) return undefined;
  const objects = manifest === undefined ? [] : await objectFiles(tree, path, entries);
  return { manifestPath: manifest === undefined ? undefined : join(path, manifest), disks, objects };
}

async function objectFiles(
  tree: Pick<SnapshotTree, "list">,
  path: string,
  entries: readonly DirectoryEntry[],
): Promise<string[]> {
  if (!entries.some(({ name, kind }) => name === "objects" && kind === "directory")) return [];
  const folder = join(path, "objects");
  const files = (await tree.list(folder)).filter(({ name, kind }) => kind === "file" && OBJECT_FILE.test(name));
  return files.map(({ name }) => join(folder, name)).sort();
}

/**
 * The objects beside a manifest. Hostile: whoever applies one takes over only what it knows.
 *
 * @throws AgentError OBJECTS_INVALID where they are too many or too large, or a file is no YAML
 */
export async function readObjects(
  tree: Pick<SnapshotTree, "file">,
  readFile: (node: FileNode, limit: number) => Promise<Buffer>,
  paths: readonly string[],
): Promise<unknown[]> {
  if (paths.length > OBJECTS_LIMIT) throw tooMuch(`more than ${OBJECTS_LIMIT} files`);
  const objects: unknown[] = [];
  let left = OBJECTS_BYTES;
  for (const path of paths) {
    const bytes = await readFile(await tree.file(path), OBJECT_LIMIT);
    left -= bytes.length;
    if (left < 0) throw tooMuch(`more than ${OBJECTS_BYTES} bytes`);
    try {
      objects.push(await parseYaml(bytes));
    } catch (cause) {
      throw new AgentError(
        "OBJECTS_INVALID",
        `${path} holds no Kubernetes object: ${errorMessage(cause).slice(0, 200)}`,
        {
          cause,
          hint: "Give the machine's manifest in the VMRestore, and make what it refers to by hand.",
        },
      );
    }
  }
  return objects;
}

function tooMuch(what: string): AgentError {
  return new AgentError("OBJECTS_INVALID", `the objects beside the manifest are ${what}`, {
    hint: "Give the machine's manifest in the VMRestore, and make what it refers to by hand.",
  });
}

/**
 * @throws AgentError MANIFEST_INVALID where the file is no VirtualMachine
 */
export async function readManifest(
  tree: Pick<SnapshotTree, "file">,
  readFile: (node: FileNode, limit: number) => Promise<Buffer>,
  path: string,
): Promise<SnapshotManifest> {
  const bytes = await readFile(await tree.file(path), MANIFEST_LIMIT);
  try {
    const content = await parseYaml(bytes);
    const { metadata, spec } = manifestFile.parse(content);
    const { volumes } = spec.template.spec;
    const disks = volumes.flatMap(({ name, persistentVolumeClaim, dataVolume }) => {
      const claim = persistentVolumeClaim?.claimName ?? dataVolume?.name;
      return claim === undefined ? [] : [{ name, claim }];
    });
    return { name: metadata.name, volumes: volumes.map(({ name }) => name), disks, content };
  } catch (cause) {
    const why = cause instanceof z.ZodError ? `wrong at ${cause.issues[0]?.path.join(".")}` : errorMessage(cause);
    throw new AgentError("MANIFEST_INVALID", `${path} is no VirtualMachine manifest: ${why.slice(0, 200)}`, {
      cause,
      hint: "Name the disks in the VMRestore, and give the machine's manifest there.",
    });
  }
}

function join(path: string, name: string): string {
  return path === "/" ? `/${name}` : `${path}/${name}`;
}

/** JSON is YAML too. The parser is loaded when it is first needed: an agent serves its disks before anybody asks for a manifest. */
async function parseYaml(bytes: Buffer): Promise<unknown> {
  const { parse } = await import("yaml");
  // Aliases multiply, so few are allowed.
  return parse(bytes.toString("utf8"), { maxAliasCount: 16 });
}
