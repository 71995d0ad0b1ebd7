import { isObject, type JsonValue, own } from "../json.ts";

type Step =
  | { readonly key: string }
  | { readonly index: number }
  | { readonly all: true }
  | { readonly filter: { readonly path: readonly string[]; readonly value: string } };

const STEP =
  /^(?:\.(?<key>[\w-]+)|\.?\[['"](?<quoted>[^'"]*)['"]\]|\[(?<index>-?\d+)\]|(?<all>\[\*\]|\.\*)|\[\?\(\s*@(?<path>(?:\.[\w-]+)+)\s*==\s*(?<value>"[^"]*"|'[^']*'|[\w.-]+)\s*\)\])/;

/**
 * The part of JSONPath that printer columns use: `.spec.a`, `['a.b']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`.
 *
 * @returns undefined for what is not understood
 */
export function parseJsonPath(text: string): ((value: JsonValue) => JsonValue[]) | undefined {
  const steps: Step[] = [];
  let rest = text
    .trim()
    .replace(/^\{(.*)\}$/, "$1")
    .replaceAll("\\.", "\u0000");
  if (rest !== "" && !rest.startsWith(".") && !rest.startsWith("[")) rest = `.${rest}`;
  while (rest !== "" && rest !== ".") {
    const groups = STEP.exec(rest.replaceAll("\u0000", "-"))?.groups;
    const match = STEP.exec(rest.replaceAll("\u0000", "_"));
    if (groups === undefined || match === null) return undefined;
    steps.push(stepOf(groups, rest.slice(0, match[0].length)));
    rest = rest.slice(match[0].length);
  }
  return (value) => steps.reduce<JsonValue[]>((values, step) => values.flatMap((item) => follow(item, step)), [value]);
}

function stepOf(groups: Record<string, string | undefined>, raw: string): Step {
  const { key, quoted, index, path, value } = groups;
  // A dot that was escaped is part of the key.
  if (key !== undefined) return { key: raw.slice(1).replaceAll("\u0000", ".") };
  if (quoted !== undefined) return { key: quoted };
  if (index !== undefined) return { index: Number(index) };
  if (path !== undefined && value !== undefined) {
    return { filter: { path: path.split(".").slice(1), value: value.replace(/^["'](.*)["']$/, "$1") } };
  }
  return { all: true };
}

function follow(value: JsonValue, step: Step): JsonValue[] {
  if ("key" in step) {
    const found = isObject(value) ? own(value, step.key) : undefined;
    return found === undefined ? [] : [found];
  }
  const items = Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
  const present = items.filter((item) => item !== undefined);
  if ("index" in step) {
    const found = Array.isArray(value) ? present.at(step.index) : undefined;
    return found === undefined ? [] : [found];
  }
  if ("all" in step) return present;
  const { path, value: wanted } = step.filter;
  return present.filter((item) => {
    let current: JsonValue | undefined = item;
    for (const key of path) current = isObject(current) ? own(current, key) : undefined;
    return current !== undefined && String(current) === wanted;
  });
}
