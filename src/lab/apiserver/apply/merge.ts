import { isObject, type JsonObject, type JsonValue, own, setOwn } from "../json.ts";
import type { Schema } from "../schema/schema.ts";
import { badRequest } from "../status-error.ts";
import { fieldSchema, itemElement, itemsByElement, structureOf, UNKNOWN } from "./structure.ts";

/**
 * What is live, with the applied configuration laid over it: leaves are taken from the configuration, maps are merged
 * by key and keyed lists and sets by item. The result may share parts of both.
 *
 * @throws StatusError BadRequest where the configuration has two items with one key
 */
export function mergeFields(schema: Schema, live: JsonValue | undefined, config: JsonValue): JsonValue {
  switch (structureOf(schema, config)) {
    case "leaf":
      return config;
    case "map":
      return mergeMaps(schema, isObject(live) ? live : {}, isObject(config) ? config : {});
    case "list":
      return mergeLists(schema, Array.isArray(live) ? live : [], Array.isArray(config) ? config : []);
  }
}

function mergeMaps(schema: Schema, live: JsonObject, config: JsonObject): JsonObject {
  const merged: JsonObject = {};
  for (const [key, value] of Object.entries(live)) setOwn(merged, key, value);
  for (const [key, value] of Object.entries(config)) {
    if (value !== undefined) setOwn(merged, key, mergeFields(fieldSchema(schema, key), own(live, key), value));
  }
  return merged;
}

/**
 * Items that only one side has keep their place beside their neighbours; the order of items that both have is that of
 * the configuration.
 */
function mergeLists(schema: Schema, live: readonly JsonValue[], config: readonly JsonValue[]): JsonValue[] {
  const applied = itemsByElement(schema, config);
  for (const [element, items] of applied) {
    if (items.length > 1) throw badRequest(`duplicate entries for key ${element.slice(2)}`);
  }
  const before = itemsByElement(schema, live);
  const left = live.map((item) => itemElement(schema, item));
  const right = [...applied.keys()];
  const shared = right.filter((element) => before.has(element));
  const taken = new Set<string>();
  const merged: JsonValue[] = [];
  const take = (element: string) => {
    const same = before.get(element) ?? [];
    const [item] = applied.get(element) ?? [];
    taken.add(element);
    // Items that could not be told apart are replaced, not merged.
    merged.push(mergeFields(schema.items ?? UNKNOWN, same.length === 1 ? same[0] : undefined, item ?? null));
  };
  let [l, r, nextShared] = [0, 0, 0];
  while (l < left.length || r < right.length) {
    const [mine, theirs] = [left[l], right[r]];
    if (mine !== undefined && theirs !== undefined) {
      if (mine === theirs) {
        take(theirs);
        [l, r, nextShared] = [l + 1, r + 1, nextShared + 1];
        continue;
      }
      if (applied.has(mine) && nextShared < shared.length && shared[nextShared] !== mine) {
        l++;
        continue;
      }
    }
    if (mine !== undefined) {
      if (!applied.has(mine)) {
        merged.push(live[l] ?? null);
        l++;
        continue;
      }
      if (taken.has(mine)) l++;
    }
    if (theirs !== undefined) {
      take(theirs);
      r++;
      if (shared[nextShared] === theirs) nextShared++;
    }
  }
  return merged;
}
