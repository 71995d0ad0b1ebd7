import { copyJson, equalJson, isObject, type JsonObject, type JsonValue, own, setOwn } from "../json.ts";
import { anySchema, type Schema } from "../schema/schema.ts";
import { badRequest } from "../status-error.ts";
import { orderItems } from "./element-order.ts";

const DIRECTIVE = "$patch";
const RETAIN_KEYS = "$retainKeys";
const DELETE_FROM = "$deleteFromPrimitiveList/";
const SET_ORDER = "$setElementOrder/";

/**
 * The strategic merge patch of Kubernetes (api-conventions, "Strategic Merge Patch"): a merge patch in which the schema
 * says which lists are merged by key. Neither argument is changed.
 *
 * @throws StatusError BadRequest for malformed directives
 */
export function applyStrategicMergePatch(schema: Schema, original: JsonValue, patch: JsonValue): JsonValue {
  if (!isObject(patch)) throw badRequest("a strategic merge patch is an object");
  return mergeMap(schema, isObject(original) ? original : {}, patch);
}

function mergeMap(schema: Schema, original: JsonObject, patch: JsonObject): JsonObject {
  const directive = own(patch, DIRECTIVE);
  if (directive === "replace") return withoutDirectives(patch);
  if (directive === "delete") return {};
  if (directive !== undefined && directive !== "merge") throw badRequest(`unknown patch type: ${String(directive)}`);
  const merged: JsonObject = {};
  for (const [key, value] of Object.entries(original)) setOwn(merged, key, value);
  retainKeys(merged, patch);
  deleteFromLists(merged, patch);
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith("$") || value === undefined) continue;
    if (value === null) delete merged[key];
    else setOwn(merged, key, mergeField(schema, key, own(merged, key), value));
  }
  orderLists(schema, merged, original, patch);
  return merged;
}

function mergeField(schema: Schema, key: string, was: JsonValue | undefined, value: JsonValue): JsonValue {
  const field = schema.properties?.get(key) ?? schema.additionalProperties ?? anySchema;
  if (isObject(value)) {
    if (field.patchStrategies?.includes("replace") === true) return withoutDirectives(value);
    return mergeMap(field, isObject(was) ? was : {}, value);
  }
  if (!Array.isArray(value)) return value;
  if (field.patchStrategies?.includes("merge") !== true) return copyJson(value);
  const original = Array.isArray(was) ? was : [];
  const { patchMergeKey } = field;
  if (patchMergeKey === undefined) return mergePrimitives(original, value);
  return mergeItems(field.items ?? anySchema, patchMergeKey, original, value);
}

function mergePrimitives(original: readonly JsonValue[], patch: readonly JsonValue[]): JsonValue[] {
  const merged = [...original];
  for (const item of patch) if (!merged.some((other) => equalJson(other, item))) merged.push(item);
  return orderItems(merged, patch, original, undefined);
}

function mergeItems(
  schema: Schema,
  mergeKey: string,
  original: readonly JsonValue[],
  patch: readonly JsonValue[],
): JsonValue[] {
  const items = patch.map((item) => {
    if (!isObject(item)) throw badRequest("an item of a list that is merged by key must be an object");
    return item;
  });
  if (items.some((item) => item[DIRECTIVE] === "replace")) {
    return items.filter((item) => item[DIRECTIVE] === undefined).map(withoutDirectives);
  }
  const keyOf = (item: JsonValue) => (isObject(item) ? own(item, mergeKey) : undefined);
  let merged = [...original];
  const kept: JsonObject[] = [];
  for (const item of items) {
    const key = keyOf(item);
    if (key === undefined)
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey}`);
    if (item[DIRECTIVE] === "delete") {
      merged = merged.filter((other) => !equalJson(keyOf(other), key));
      continue;
    }
    kept.push(item);
    const index = merged.findIndex((other) => equalJson(keyOf(other), key));
    const before = merged[index];
    const after = mergeMap(schema, isObject(before) ? before : {}, item);
    if (index === -1) merged.push(after);
    else merged[index] = after;
  }
  return orderItems(merged, kept, original, mergeKey);
}

/** Keys that the patch does not retain go, unless the patch sets them. */
function retainKeys(merged: JsonObject, patch: JsonObject): void {
  const retained = own(patch, RETAIN_KEYS);
  if (retained === undefined) return;
  if (!Array.isArray(retained)) throw badRequest(`${RETAIN_KEYS} must be a list`);
  for (const key of Object.keys(merged)) if (!retained.includes(key)) delete merged[key];
}

function deleteFromLists(merged: JsonObject, patch: JsonObject): void {
  for (const [directive, items] of Object.entries(patch)) {
    if (!directive.startsWith(DELETE_FROM)) continue;
    const key = directive.slice(DELETE_FROM.length);
    const list = own(merged, key);
    if (!Array.isArray(items)) throw badRequest(`${directive} must be a list`);
    if (Array.isArray(list)) {
      setOwn(
        merged,
        key,
        list.filter((item) => !items.some((other) => equalJson(other, item))),
      );
    }
  }
}

function orderLists(schema: Schema, merged: JsonObject, original: JsonObject, patch: JsonObject): void {
  for (const [directive, order] of Object.entries(patch)) {
    if (!directive.startsWith(SET_ORDER)) continue;
    if (!Array.isArray(order)) throw badRequest(`${directive} must be a list`);
    const key = directive.slice(SET_ORDER.length);
    const list = own(merged, key);
    const before = own(original, key);
    if (!Array.isArray(list)) continue;
    const { patchMergeKey } = schema.properties?.get(key) ?? anySchema;
    setOwn(merged, key, orderItems(list, order, Array.isArray(before) ? before : [], patchMergeKey));
  }
}

function withoutDirectives(patch: JsonObject): JsonObject {
  const clean: JsonObject = {};
  for (const [key, value] of Object.entries(patch)) if (!key.startsWith("$")) setOwn(clean, key, copyJson(value));
  return clean;
}
