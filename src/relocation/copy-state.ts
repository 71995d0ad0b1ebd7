import { constants } from "node:fs";
import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  STATE_BYTES_LIMIT,
  STATE_DEPTH_LIMIT,
  STATE_FILES_LIMIT,
  STATE_FOLDERS,
  statePath,
} from "../api/machine-state.ts";
import { errorCode } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import { RelocationError } from "./errors.ts";
import { putState, type StateFile } from "./put-state.ts";

/**
 * Copies a machine's TPM and firmware state from one claim to another. Everything is durable when it resolves; run again, it does the same
 * again. Whatever else there is on the claim is left out: locks, and the bitmaps of changed blocks, which are about other disks.
 *
 * @param options where the two claims are mounted
 * @throws RelocationError RELOCATION_STATE_TOO_LARGE
 */
export async function copyState(options: {
  readonly from: string;
  readonly into: string;
  readonly log: Logger;
}): Promise<void> {
  const { from, into, log } = options;
  log.info(
    { files: await putState(stateOn(from), into) },
    "a copy of the old machine's state is on the machine's claim",
  );
}

async function* stateOn(claim: string): AsyncGenerator<StateFile> {
  let left = STATE_BYTES_LIMIT;
  let count = 0;
  for await (const path of paths(claim, "", 0)) {
    if (++count > STATE_FILES_LIMIT) throw tooLarge(`more than ${STATE_FILES_LIMIT} files`);
    // Whoever put a link there does not choose what is read.
    const file = await open(join(claim, path), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const content = await readUpTo(file, left);
      left -= content.length;
      yield { path, content };
    } finally {
      await file.close();
    }
  }
}

async function readUpTo(file: FileHandle, limit: number): Promise<Buffer> {
  const { size } = await file.stat();
  if (size > limit) throw tooLarge(`more than ${STATE_BYTES_LIMIT} bytes`);
  const content = Buffer.alloc(size);
  const { bytesRead } = await file.read(content, 0, size, 0);
  return content.subarray(0, bytesRead);
}

async function* paths(claim: string, folder: string, depth: number): AsyncGenerator<string> {
  const entries = await readdir(join(claim, folder), { withFileTypes: true }).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    const isKnown = depth > 0 || STATE_FOLDERS.some((name) => name === entry.name);
    if (entry.isDirectory() && isKnown && depth < STATE_DEPTH_LIMIT) yield* paths(claim, path, depth + 1);
    else if (entry.isFile() && statePath.safeParse(path).success) yield path;
  }
}

function tooLarge(what: string): RelocationError {
  return new RelocationError("RELOCATION_STATE_TOO_LARGE", `the old machine's TPM and firmware state is ${what}`, {
    hint: "Look at what else lies on its claim.",
  });
}
