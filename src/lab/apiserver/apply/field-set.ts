import { isObject, type JsonObject } from "../json.ts";
import { badRequest } from "../status-error.ts";

/** Deeper than any real object; a hostile `fieldsV1` can't exhaust the stack. */
const MAX_DEPTH = 100;

/**
 * A set of fields, as `managedFields` holds it: a tree of path elements in their serialized form (`f:name`,
 * `k:{"name":"a"}`, `v:"x"`). A field that is in the set does not bring its children in, and children do not bring in
 * the field.
 */
export class FieldSet {
  readonly #members: Set<string>;
  readonly #children: Map<string, FieldSet>;

  constructor(members: Iterable<string> = [], children: Iterable<readonly [string, FieldSet]> = []) {
    this.#members = new Set(members);
    this.#children = new Map(children);
  }

  get members(): ReadonlySet<string> {
    return this.#members;
  }

  get children(): ReadonlyMap<string, FieldSet> {
    return this.#children;
  }

  get isEmpty(): boolean {
    return this.#members.size === 0 && [...this.#children.values()].every((child) => child.isEmpty);
  }

  /** The object itself (an empty path) is not tracked. */
  insert(path: readonly string[]): void {
    const last = path.at(-1);
    if (last === undefined) return;
    let set: FieldSet = this;
    for (const element of path.slice(0, -1)) set = set.#descend(element);
    set.#members.add(last);
  }

  #descend(element: string): FieldSet {
    let child = this.#children.get(element);
    if (child === undefined) {
      child = new FieldSet();
      this.#children.set(element, child);
    }
    return child;
  }

  has(path: readonly string[]): boolean {
    const [element, ...rest] = path;
    if (element === undefined) return false;
    if (rest.length === 0) return this.#members.has(element);
    return this.#children.get(element)?.has(rest) ?? false;
  }

  /** The fields below one element, as paths from there. */
  below(element: string): FieldSet {
    return this.#children.get(element) ?? new FieldSet();
  }

  union(other: FieldSet): FieldSet {
    const children = new Map(this.#children);
    for (const [element, child] of other.#children) {
      const mine = children.get(element);
      children.set(element, mine === undefined ? child : mine.union(child));
    }
    return new FieldSet([...this.#members, ...other.#members], children);
  }

  intersection(other: FieldSet): FieldSet {
    const children: [string, FieldSet][] = [];
    for (const [element, child] of this.#children) {
      const theirs = other.#children.get(element);
      if (theirs !== undefined) children.push([element, child.intersection(theirs)]);
    }
    return new FieldSet(
      [...this.#members].filter((member) => other.#members.has(member)),
      children.filter(([, child]) => !child.isEmpty),
    );
  }

  /** What is here and not there, field by field. */
  difference(other: FieldSet): FieldSet {
    const children: [string, FieldSet][] = [];
    for (const [element, child] of this.#children) {
      const theirs = other.#children.get(element);
      const left = theirs === undefined ? child : child.difference(theirs);
      if (!left.isEmpty) children.push([element, left]);
    }
    return new FieldSet(
      [...this.#members].filter((member) => !other.#members.has(member)),
      children,
    );
  }

  /** Without whatever is in `other`, and without everything below that. */
  without(other: FieldSet): FieldSet {
    const children: [string, FieldSet][] = [];
    for (const [element, child] of this.#children) {
      if (other.#members.has(element)) continue;
      const theirs = other.#children.get(element);
      const left = theirs === undefined ? child : child.without(theirs);
      if (!left.isEmpty) children.push([element, left]);
    }
    return new FieldSet(
      [...this.#members].filter((member) => !other.#members.has(member)),
      children,
    );
  }

  equals(other: FieldSet): boolean {
    return this.difference(other).isEmpty && other.difference(this).isEmpty;
  }

  *paths(prefix: readonly string[] = []): Generator<readonly string[]> {
    for (const element of new Set([...this.#members, ...this.#children.keys()])) {
      const path = [...prefix, element];
      if (this.#members.has(element)) yield path;
      yield* this.#children.get(element)?.paths(path) ?? [];
    }
  }

  /** `FieldsV1` of meta/v1. */
  toJson(): JsonObject {
    const json: JsonObject = {};
    for (const element of [...new Set([...this.#members, ...this.#children.keys()])].sort()) {
      const child = this.#children.get(element);
      const below = child === undefined || child.isEmpty ? undefined : child.toJson();
      if (this.#members.has(element)) json[element] = below === undefined ? {} : { ".": {}, ...below };
      else if (below !== undefined) json[element] = below;
    }
    return json;
  }

  /** @throws StatusError BadRequest for what is no `FieldsV1` */
  static fromJson(json: unknown, depth = 0): FieldSet {
    if (!isObject(json) || depth > MAX_DEPTH) throw badRequest("managedFields: fieldsV1 is malformed");
    const set = new FieldSet();
    for (const [element, below] of Object.entries(json)) {
      if (element === ".") continue;
      if (!/^[fkvi]:/.test(element) || !isObject(below)) throw badRequest("managedFields: fieldsV1 is malformed");
      const keys = Object.keys(below);
      if (keys.length === 0 || Object.hasOwn(below, ".")) set.#members.add(element);
      if (keys.some((key) => key !== ".")) set.#children.set(element, FieldSet.fromJson(below, depth + 1));
    }
    return set;
  }
}
