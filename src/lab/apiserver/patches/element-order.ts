import { equalJson, isObject, type JsonValue, own } from "../json.ts";

/**
 * Orders a merged list: items that `wanted` names follow its order, the others keep their order of `live`; where the
 * two meet, the live order decides as far as it can.
 *
 * @param mergeKey what tells items apart; undefined for primitives
 */
export function orderItems(
  merged: readonly JsonValue[],
  wanted: readonly JsonValue[],
  live: readonly JsonValue[],
  mergeKey: string | undefined,
): JsonValue[] {
  const identity = (item: JsonValue) => (mergeKey !== undefined && isObject(item) ? own(item, mergeKey) : item);
  const indexIn = (list: readonly JsonValue[], item: JsonValue) =>
    list.findIndex((other) => equalJson(identity(other), identity(item)));
  const named = merged.filter((item) => indexIn(wanted, item) >= 0);
  const others = merged.filter((item) => indexIn(wanted, item) < 0);
  named.sort((a, b) => indexIn(wanted, a) - indexIn(wanted, b));
  others.sort((a, b) => indexIn(live, a) - indexIn(live, b));
  const ordered: JsonValue[] = [];
  while (named.length > 0 && others.length > 0) {
    const [left, right] = [others[0] ?? null, named[0] ?? null];
    const [leftIndex, rightIndex] = [indexIn(live, left), indexIn(live, right)];
    const isBefore = leftIndex >= 0 && rightIndex >= 0 && leftIndex < rightIndex;
    ordered.push(isBefore ? left : right);
    (isBefore ? others : named).shift();
  }
  return [...ordered, ...others, ...named];
}
