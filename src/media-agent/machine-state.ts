import {
  type MachineState,
  STATE_BYTES_LIMIT,
  STATE_DEPTH_LIMIT,
  STATE_FILES_LIMIT,
  STATE_FOLDERS,
  type StateListing,
  statePath,
} from "../api/machine-state.ts";
import type { FileNode, SnapshotTree } from "../repository/repository.ts";
import { AgentError } from "./errors.ts";

/**
 * The files of a machine's firmware and TPM in a snapshot: `state/` beside the manifest, laid out as on KubeVirt's claim. Others
 * there are left out.
 *
 * @throws AgentError STATE_TOO_LARGE
 */
export async function listState(
  tree: Pick<SnapshotTree, "list">,
  manifestPath: string | undefined,
): Promise<StateListing> {
  if (manifestPath === undefined) return [];
  const root = `${manifestPath.slice(0, manifestPath.lastIndexOf("/"))}/state`;
  const above = root.slice(0, -"/state".length);
  const entries = await tree.list(above === "" ? "/" : above);
  if (!entries.some(({ name, kind }) => name === "state" && kind === "directory")) return [];
  const found: StateListing = [];
  const walk = async (folder: string, depth: number): Promise<void> => {
    for (const { name, kind, size } of await tree.list(folder === "" ? root : `${root}/${folder}`)) {
      const path = folder === "" ? name : `${folder}/${name}`;
      if (
        kind === "directory" &&
        depth < STATE_DEPTH_LIMIT &&
        (depth > 0 || STATE_FOLDERS.some((known) => known === name))
      )
        await walk(path, depth + 1);
      else if (kind === "file" && statePath.safeParse(path).success) found.push({ path, size });
      if (found.length > STATE_FILES_LIMIT) throw tooLarge(`more than ${STATE_FILES_LIMIT} files`);
    }
  };
  await walk("", 0);
  const bytes = found.reduce((sum, { size }) => sum + size, 0);
  if (bytes > STATE_BYTES_LIMIT) throw tooLarge(`${bytes} bytes`);
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** What {@link listState} finds, with its content. */
export async function readState(
  tree: Pick<SnapshotTree, "list" | "file">,
  readFile: (node: FileNode, limit: number) => Promise<Buffer>,
  manifestPath: string | undefined,
): Promise<MachineState> {
  const files: MachineState["files"] = [];
  for (const { path } of await listState(tree, manifestPath)) {
    const root = manifestPath?.slice(0, manifestPath.lastIndexOf("/")) ?? "";
    const bytes = await readFile(await tree.file(`${root}/state/${path}`), STATE_BYTES_LIMIT);
    files.push({ path, data: bytes.toString("base64") });
  }
  return { files };
}

function tooLarge(what: string): AgentError {
  return new AgentError("STATE_TOO_LARGE", `the machine's TPM and firmware state in the snapshot is ${what}`, {
    hint: "Give the machine's manifest in the VMRestore; it begins with an empty state then.",
  });
}
