/**
 * What may be taken over of an object out of a backup: a description of known fields, gone through value by value. Everything else
 * is left behind and noted, however deep it lies.
 */
export type Shape =
  | { readonly is: "text"; readonly max: number; readonly pattern?: RegExp }
  | { readonly is: "whole number" }
  | { readonly is: "flag" }
  | { readonly is: "quantity" }
  | { readonly is: "fields"; readonly fields: Fields }
  | { readonly is: "list"; readonly of: Shape; readonly max: number }
  | { readonly is: "map"; readonly of: Shape; readonly max: number };

export type Fields = { readonly [name: string]: Shape };

/** How many notes are kept, and how long each may be. */
const NOTES_LIMIT = 64;
const NOTE_LENGTH = 100;
/** A key of labels and of resource lists. */
const KEY = /^[-A-Za-z0-9_./]{1,317}$/;

export const flag: Shape = { is: "flag" };
export const whole: Shape = { is: "whole number" };
/** `512Mi`, 4, or a port's name: a number or a short string. */
export const quantity: Shape = { is: "quantity" };
/** An object that says something by being there. */
export const marker: Shape = { is: "fields", fields: {} };

/** @param max characters */
export function text(max = 253, pattern?: RegExp): Shape {
  return { is: "text", max, ...(pattern === undefined ? {} : { pattern }) };
}

export function fields(known: Fields): Shape {
  return { is: "fields", fields: known };
}

export function list(of: Shape, max = 64): Shape {
  return { is: "list", of, max };
}

export function map(of: Shape = text(1024), max = 64): Shape {
  return { is: "map", of, max };
}

/** The same shape for several names. */
export function each(shape: Shape, ...names: readonly string[]): Fields {
  return Object.fromEntries(names.map((name) => [name, shape]));
}

/** What was not taken over, for people: a bounded list of paths. */
export class LeftOut {
  readonly #paths = new Set<string>();

  get paths(): readonly string[] {
    return [...this.#paths];
  }

  note(path: string): void {
    // Names come out of the backup: nothing of them may look like anything but a name.
    if (this.#paths.size < NOTES_LIMIT) this.#paths.add(path.replace(/[^-\w./[\] ]+/g, "?").slice(0, NOTE_LENGTH));
  }
}

/** The part of `value` that `shape` knows; undefined where there is none. */
export function takeOver(value: unknown, shape: Shape, path: string, leftOut: LeftOut): unknown {
  // An API server takes null for a field that is not set.
  if (value === undefined || value === null) return undefined;
  const taken = takeAny(value, shape, path, leftOut);
  if (taken === undefined) leftOut.note(path);
  return taken;
}

function takeAny(value: unknown, shape: Shape, path: string, leftOut: LeftOut): unknown {
  switch (shape.is) {
    case "text":
      return isText(value, shape.max) && (shape.pattern?.test(value) ?? true) ? value : undefined;
    case "whole number":
      return Number.isSafeInteger(value) ? value : undefined;
    case "flag":
      return typeof value === "boolean" ? value : undefined;
    case "quantity":
      return Number.isFinite(value) || isText(value, 64) ? value : undefined;
    case "fields":
      return isRecord(value) ? takeFields(value, shape.fields, path, leftOut) : undefined;
    case "map":
      return isRecord(value) ? takeMap(value, shape, path, leftOut) : undefined;
    case "list":
      return Array.isArray(value) ? takeList(value, shape, path, leftOut) : undefined;
  }
}

/** The known fields of an object; the others are noted. */
export function takeFields(
  value: Readonly<Record<string, unknown>>,
  known: Fields,
  path: string,
  leftOut: LeftOut,
): Record<string, unknown> {
  const taken: Record<string, unknown> = {};
  for (const name of Object.keys(value)) {
    const shape = Object.hasOwn(known, name) ? known[name] : undefined;
    if (shape === undefined) {
      if (value[name] !== null) leftOut.note(`${path}.${name}`);
      continue;
    }
    const inner = takeOver(value[name], shape, `${path}.${name}`, leftOut);
    if (inner !== undefined) taken[name] = inner;
  }
  return taken;
}

function takeMap(value: Record<string, unknown>, shape: Shape & { is: "map" }, path: string, leftOut: LeftOut) {
  const taken: Record<string, unknown> = {};
  for (const [name, given] of Object.entries(value)) {
    const fits = KEY.test(name) && name !== "__proto__" && Object.keys(taken).length < shape.max;
    const inner = fits ? takeOver(given, shape.of, `${path}.${name}`, leftOut) : undefined;
    if (inner !== undefined) taken[name] = inner;
    else if (!fits) leftOut.note(`${path}.${name}`);
  }
  return taken;
}

function takeList(value: readonly unknown[], shape: Shape & { is: "list" }, path: string, leftOut: LeftOut) {
  if (value.length > shape.max) leftOut.note(`${path}[${shape.max}]`);
  return value.slice(0, shape.max).flatMap((given, index) => {
    const inner = takeOver(given, shape.of, `${path}[${index}]`, leftOut);
    return inner === undefined ? [] : [inner];
  });
}

/** No control characters but those of ordinary text: nobody's terminal or log is to be written to. */
function isText(value: unknown, max: number): value is string {
  if (typeof value !== "string" || value.length > max) return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return !/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(value);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The object at a path, empty where there is none. */
export function at(object: unknown, ...path: readonly string[]): Record<string, unknown> {
  let inner = object;
  for (const name of path) inner = isRecord(inner) && Object.hasOwn(inner, name) ? inner[name] : undefined;
  return isRecord(inner) ? inner : {};
}
