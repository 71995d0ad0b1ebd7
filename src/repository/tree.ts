import * as z from "zod";
import { RepositoryError } from "./errors.ts";
import { parseJson } from "./key-file.ts";

const ID = /^[0-9a-f]{64}$/;

const node = z.object({
  name: z.string().max(4096),
  type: z.string().max(32),
  size: z.int().nonnegative().optional(),
  content: z.array(z.string()).nullish(),
  subtree: z.string().regex(ID).nullish(),
});

const tree = z.object({ nodes: z.array(node).nullable() });

export type TreeNode = z.infer<typeof node>;

/** The nodes of a tree blob. File contents are checked where they are used: a large disk has millions of ids. */
export function parseTree(id: string, plain: Buffer): TreeNode[] {
  const parsed = tree.safeParse(parseJson(plain));
  if (!parsed.success) throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `tree ${id} is not a tree of restic`);
  return parsed.data.nodes ?? [];
}

/** The parts of an absolute or relative path; `.` and empty parts mean nothing, `..` is refused. */
export function splitPath(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new RepositoryError("PATH_NOT_FOUND", `${path}: a path may not go up`);
  return parts;
}
