import { copyJson, equalJson, isObject, type JsonObject, type JsonValue, setOwn } from "../json.ts";
import { badRequest, StatusError } from "../status-error.ts";

/** The API's own limit. */
const MAX_OPERATIONS = 10_000;

/**
 * RFC 6902, all six operations. Unlike the RFC, `remove` of what is absent is an error and not ignored.
 *
 * @returns a new document; `document` is not changed
 * @throws StatusError BadRequest for what is no patch, Invalid (422) where it does not fit the document
 */
export function applyJsonPatch(document: JsonValue, patch: unknown): JsonValue {
  if (!Array.isArray(patch)) throw badRequest("a JSON patch is an array of operations");
  if (patch.length > MAX_OPERATIONS) {
    throw new StatusError(413, "RequestEntityTooLarge", `a JSON patch has at most ${MAX_OPERATIONS} operations`);
  }
  const root: JsonObject = { "": copyJson(document) };
  for (const operation of patch as unknown[]) {
    if (!isObject(operation)) throw badRequest("an operation of a JSON patch is an object");
    applyOperation(root, operation);
  }
  return root[""] ?? null;
}

function applyOperation(root: JsonObject, operation: JsonObject): void {
  const path = pointerOf(operation.path, "path");
  switch (operation.op) {
    case "add":
      add(root, path, operandOf(operation));
      break;
    case "remove":
      remove(root, path);
      break;
    case "replace": {
      const value = operandOf(operation);
      if (path.length > 0) remove(root, path);
      add(root, path, value);
      break;
    }
    case "move": {
      const from = pointerOf(operation.from, "from");
      if (path.length > from.length && from.every((key, index) => key === path[index])) {
        throw mismatch("can't move a value into itself");
      }
      add(root, path, remove(root, from));
      break;
    }
    case "copy":
      add(root, path, copyJson(read(root, pointerOf(operation.from, "from"))));
      break;
    case "test":
      if (!equalJson(read(root, path), operandOf(operation))) {
        throw mismatch(`testing value ${String(operation.path)} failed`);
      }
      break;
    default:
      throw badRequest(`unknown operation in JSON patch: ${JSON.stringify(operation.op)}`);
  }
}

function mismatch(why: string): StatusError {
  return new StatusError(422, "Invalid", `the server rejected our request due to an error in our request: ${why}`, {});
}

function operandOf(operation: JsonObject): JsonValue {
  if (operation.value === undefined) throw badRequest(`operation ${String(operation.op)} needs a value`);
  return copyJson(operation.value);
}

/** RFC 6901. */
function pointerOf(pointer: JsonValue | undefined, field: string): string[] {
  if (typeof pointer !== "string" || (pointer !== "" && !pointer.startsWith("/")) || /~(?![01])/.test(pointer)) {
    throw badRequest(`${field} of an operation in a JSON patch is no JSON pointer: ${JSON.stringify(pointer)}`);
  }
  const keys = pointer.split("/").slice(1);
  return keys.map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function indexOf(array: readonly JsonValue[], key: string, end: number): number {
  const index = /^(0|[1-9]\d{0,9})$/.test(key) ? Number(key) : Number.NaN;
  if (!(index <= end)) throw mismatch(`no item ${key} in an array of ${array.length}`);
  return index;
}

function read(root: JsonObject, path: readonly string[]): JsonValue {
  let value: JsonValue | undefined = root[""];
  for (const key of path) {
    if (Array.isArray(value)) value = value[indexOf(value, key, value.length - 1)];
    else value = isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
    if (value === undefined) throw mismatch(`there is nothing at /${path.join("/")}`);
  }
  return value ?? null;
}

function parentOf(root: JsonObject, path: readonly string[]): { parent: JsonValue; key: string } {
  if (path.length === 0) return { parent: root, key: "" };
  return { parent: read(root, path.slice(0, -1)), key: path.at(-1) ?? "" };
}

function add(root: JsonObject, path: readonly string[], value: JsonValue): void {
  const { parent, key } = parentOf(root, path);
  if (Array.isArray(parent)) parent.splice(key === "-" ? parent.length : indexOf(parent, key, parent.length), 0, value);
  else if (isObject(parent)) setOwn(parent, key, value);
  else throw mismatch(`/${path.slice(0, -1).join("/")} is neither object nor array`);
}

function remove(root: JsonObject, path: readonly string[]): JsonValue {
  const { parent, key } = parentOf(root, path);
  if (Array.isArray(parent)) {
    const [removed] = parent.splice(indexOf(parent, key, parent.length - 1), 1);
    return removed ?? null;
  }
  if (!isObject(parent) || !Object.hasOwn(parent, key)) throw mismatch(`there is nothing at /${path.join("/")}`);
  const removed = parent[key];
  delete parent[key];
  return removed ?? null;
}
