import { writeFile } from "node:fs/promises";
import * as z from "zod";
import { type BackendConfig, backendConfig } from "../api/agent-config.ts";
import { type Inspection, inspection, inspectionRequest } from "../api/inspection.ts";
import { systemClock } from "../base/clock.ts";
import { errorMessage, VmRestoreError } from "../base/errors.ts";
import { type FileNode, Repository, type SnapshotTree } from "../repository/repository.ts";
import type { RepositoryFile } from "../repository/repository-file.ts";
import { type Snapshot, selectSnapshot } from "../repository/snapshot.ts";
import { findDisks, resolvePath } from "./disk-search.ts";
import { AgentError } from "./errors.ts";
import { openBackend, type RepositoryAccess, readPassword } from "./repository-access.ts";
import { openSnapshotDisk, type SnapshotDisk } from "./snapshot-disk.ts";
import { findLayout, readManifest, type SnapshotLayout, type SnapshotManifest } from "./snapshot-layout.ts";

/** Kubernetes keeps 4,096 bytes of a termination message. */
const RESULT_LIMIT = 4095;
const TEXT_LIMIT = 700;
const SECTOR = 512;

type ParsedRequest = z.output<typeof inspectionRequest>;

export interface InspectOptions extends RepositoryAccess {
  /** JSON of a `backendConfig`; by default the repository in `repositoryDir`. */
  readonly repository?: string;
  /** JSON of an `inspectionRequest`. */
  readonly selector?: string;
  /** File that the `inspection` is written to. */
  readonly result: string;
}

/**
 * Looks into a repository and writes what it found. What is wrong with the repository or the request is data: rejects only
 * where the result itself cannot be written.
 */
export async function runInspection(options: InspectOptions): Promise<void> {
  const found: Inspection = {};
  try {
    await inspect(options, found);
  } catch (error) {
    found.error = describe(error);
  }
  await writeFile(options.result, encode(found));
}

async function inspect(options: InspectOptions, found: Inspection): Promise<void> {
  const request = parseRequest(options.selector);
  const backend = await openBackend(parsePlace(options.repository), options, systemClock);
  const repository = await Repository.open(backend, await readPassword(options));
  try {
    found.repository = { id: repository.id, version: repository.version, snapshots: 0 };
    let damaged = 0;
    let damage: unknown;
    const snapshots = await repository.snapshots((error) => {
      damaged++;
      damage ??= error;
    });
    const own = snapshots.filter((snapshot) => !snapshot.tags.includes("vmrestore-pin"));
    const latest = own.reduce<Snapshot | undefined>((a, b) => (a === undefined || b.time > a.time ? b : a), undefined);
    found.repository.snapshots = own.length;
    if (latest !== undefined) found.repository.latest = latest.timeText;
    if (damaged > 0) found.repository.damagedSnapshots = damaged;
    if (request === undefined) return;
    const { id, latest: wanted = {} } = request.snapshot;
    // One that is damaged may be the latest.
    if (id === undefined && damaged > 0) throw damage;
    const snapshot =
      id === undefined ? selectSnapshot(snapshots, { latest: wanted }) : await repository.snapshotNamed(id);
    await inspectSnapshot(repository, snapshot, request, found);
  } finally {
    await repository.close();
  }
}

async function inspectSnapshot(
  repository: Repository,
  snapshot: Snapshot,
  request: ParsedRequest,
  found: Inspection,
): Promise<void> {
  const result: NonNullable<Inspection["snapshot"]> = {
    id: snapshot.id,
    time: snapshot.timeText,
    host: snapshot.host,
    disks: [],
    dataBytes: 0,
  };
  found.snapshot = result;

  const tree = await repository.browse(snapshot);
  const { manifest, disks } = await chooseDisks(repository, tree, request);
  if (manifest !== undefined) {
    found.snapshot.virtualMachine = manifest.name;
    const without = disks.map(({ name }) => name).filter((name) => !manifest.volumes.includes(name));
    if (without.length > 0) found.snapshot.withoutVolume = without;
  }
  const nodes: FileNode[] = [];
  for (const { path } of disks) nodes.push(await tree.file(path));
  const files = await repository.openFiles(nodes);
  const data: RepositoryFile[] = [];
  for (const [index, file] of files.entries()) {
    const { name = "", format = "auto" } = disks[index] ?? {};
    const disk = await openSnapshotDisk(repository, tree, file, format);
    checkSize(disk);
    result.disks.push({ name, path: file.path, format: disk.format, size: disk.size });
    data.push(...disk.files);
  }
  result.dataBytes = dataBytes(data);
}

interface Chosen {
  readonly manifest: SnapshotManifest | undefined;
  readonly disks: NonNullable<ParsedRequest["disks"]>;
}

async function chooseDisks(repository: Repository, tree: SnapshotTree, request: ParsedRequest): Promise<Chosen> {
  const layout = await findLayout(tree);
  const readWhole = repository.readFile.bind(repository);
  const { manifestPath } = layout ?? {};
  const reading = manifestPath === undefined ? undefined : readManifest(tree, readWhole, manifestPath);
  // Named disks need no manifest, so a useless one is no hindrance then.
  if (request.disks !== undefined) {
    const disks: Chosen["disks"] = [];
    for (const disk of request.disks) disks.push({ ...disk, path: await resolvePath(tree, disk) });
    return { manifest: await reading?.catch(() => undefined), disks };
  }
  const manifest = await reading;
  const wanted = request.volumes?.map(({ name, claim }) => ({ name, claim }));
  const laidOut = wanted === undefined ? layoutDisks(layout, manifest) : [];
  const disks = laidOut.length > 0 ? laidOut : await findDisks(tree, wanted ?? manifest?.disks ?? []);
  return { manifest, disks: disks.map((disk) => ({ ...disk, format: "auto" })) };
}

/** @throws AgentError DISKS_AMBIGUOUS */
function layoutDisks(layout: SnapshotLayout | undefined, manifest: SnapshotManifest | undefined) {
  const there = layout?.disks ?? [];
  const disks = manifest === undefined ? there : there.filter(({ name }) => manifest.volumes.includes(name));
  const twice = disks.find(({ name }, index) => disks.findIndex((disk) => disk.name === name) !== index);
  if (twice === undefined) return disks;
  throw new AgentError("DISKS_AMBIGUOUS", `the snapshot holds more than one file for the disk ${twice.name}`, {
    hint: "Name the disks and their paths in the VMRestore: spec.source.disks.",
  });
}

/** @throws AgentError DISK_SIZE_UNALIGNED */
function checkSize({ size, files }: SnapshotDisk): void {
  if (size > 0 && size % SECTOR === 0) return;
  throw new AgentError("DISK_SIZE_UNALIGNED", `${files[0].path}: ${size} bytes are no whole number of sectors`, {
    hint: "Give the path of the disk's image.",
  });
}

function dataBytes(files: readonly RepositoryFile[]): number {
  const seen = new Set<string>();
  let sum = 0;
  for (const file of files) {
    for (const blob of file.blobsIn(0, file.size)) {
      if (blob.zero || seen.has(blob.id)) continue;
      seen.add(blob.id);
      sum += blob.length;
    }
  }
  return sum;
}

function parsePlace(repository: string | undefined): BackendConfig {
  if (repository === undefined) return { local: {} };
  try {
    return backendConfig.parse(JSON.parse(repository));
  } catch (cause) {
    throw new AgentError("REQUEST_INVALID", "the repository's place is not understood", { cause });
  }
}

function parseRequest(selector: string | undefined): ParsedRequest | undefined {
  if (selector === undefined) return undefined;
  try {
    return inspectionRequest.parse(JSON.parse(selector));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : errorMessage(cause);
    throw new AgentError("REQUEST_INVALID", `the selector is not understood: ${why}`, { cause });
  }
}

function describe(error: unknown): NonNullable<Inspection["error"]> {
  if (!(error instanceof VmRestoreError)) {
    return { code: "INSPECTION_FAILED", message: errorMessage(error).slice(0, TEXT_LIMIT) };
  }
  const { code, message, hint } = error;
  return {
    code,
    message: message.slice(0, TEXT_LIMIT),
    ...(hint === undefined ? {} : { hint: hint.slice(0, TEXT_LIMIT) }),
  };
}

function encode(found: Inspection): string {
  const text = JSON.stringify(inspection.parse(found));
  if (Buffer.byteLength(text) <= RESULT_LIMIT) return text;
  const { code, message } = new AgentError(
    "INSPECTION_TOO_LARGE",
    "names and paths of the disks are too long to report",
  );
  const error = { code, message, hint: "Name fewer disks, or shorter paths." };
  return JSON.stringify({ ...(found.repository === undefined ? {} : { repository: found.repository }), error });
}
