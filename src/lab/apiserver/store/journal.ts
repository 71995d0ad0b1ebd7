import { closeSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import { errorCode, VmRestoreError } from "../../../base/errors.ts";
import { isObject, type JsonValue } from "../json.ts";
import { isKubeObject, type KubeObject } from "../object.ts";
import type { Change, Journal } from "./store.ts";

/** The folder holds something that this version can't continue from. */
class JournalError extends VmRestoreError {
  constructor(message: string) {
    super("LAB_JOURNAL_DAMAGED", message, { hint: "Remove the lab's folder to start with an empty lab." });
  }
}

interface Kept {
  readonly revision: number;
  readonly objects: (readonly [resource: string, object: KubeObject])[];
}

/** A line: the object as it is after the revision, or nothing where it was removed. */
interface Line {
  readonly revision: number;
  readonly resource: string;
  readonly key: string;
  readonly object?: KubeObject;
}

const FILE = "objects.jsonl";

/**
 * Keeps objects in one file: one line for each, then one for each change. Written before the answer goes out, so it
 * survives the death of the process; not synced, so not that of the machine. A line cut short at the end is the change
 * that was never answered, and is left out.
 */
export class FileJournal implements Journal {
  readonly #file: number;
  #closed = false;

  private constructor(file: number) {
    this.#file = file;
  }

  /** What the folder holds, and a journal that goes on from there. The file is written anew, without its history. */
  static open(folder: string): { readonly journal: FileJournal; readonly kept: Kept } {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, FILE);
    const kept = read(path);
    const temporary = `${path}.new`;
    const file = openSync(temporary, "w", 0o600);
    const journal = new FileJournal(file);
    // The revision is kept also where there is no object left that has it.
    journal.#write({ revision: kept.revision, resource: "", key: "" });
    for (const [resource, object] of kept.objects) {
      journal.#write({ revision: kept.revision, resource, key: keyOf(object), object });
    }
    renameSync(temporary, path);
    return { journal, kept };
  }

  append({ revision, resource, type, object }: Change): void {
    if (this.#closed) return;
    this.#write({ revision, resource, key: keyOf(object), ...(type === "DELETED" ? {} : { object }) });
  }

  /** Changes made after this are not kept. */
  close(): void {
    this.#closed = true;
    closeSync(this.#file);
  }

  #write(line: Line): void {
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    for (let written = 0; written < bytes.length; ) written += writeSync(this.#file, bytes, written);
  }
}

const keyOf = ({ metadata }: KubeObject) => `${metadata.namespace ?? ""}/${metadata.name ?? ""}`;

function read(path: string): Kept {
  let text = "";
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
  const objects = new Map<string, readonly [string, KubeObject]>();
  let revision = 0;
  const lines = text.split("\n");
  // Whatever follows the last newline was not written whole.
  for (const [index, text] of lines.slice(0, -1).entries()) {
    const line = parseLine(text, index);
    revision = Math.max(revision, line.revision);
    const key = `${line.resource} ${line.key}`;
    if (line.object === undefined) objects.delete(key);
    else objects.set(key, [line.resource, line.object]);
  }
  return { revision, objects: [...objects.values()] };
}

function parseLine(text: string, index: number): Line {
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch {
    throw new JournalError(`line ${index + 1} of the lab's objects is no JSON`);
  }
  if (!isObject(value)) throw new JournalError(`line ${index + 1} of the lab's objects is malformed`);
  const { revision, resource, key, object } = value;
  const isWhole = typeof revision === "number" && typeof resource === "string" && typeof key === "string";
  if (!isWhole || (object !== undefined && !isKubeObject(object))) {
    throw new JournalError(`line ${index + 1} of the lab's objects is malformed`);
  }
  return { revision, resource, key, ...(object === undefined ? {} : { object }) };
}
