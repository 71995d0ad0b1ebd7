/** A value of LVM2's configuration text. */
export type LvmValue = string | number | readonly LvmValue[] | LvmSection;
export type LvmSection = ReadonlyMap<string, LvmValue>;

const DEPTH = 8;
/** A group of a thousand volumes has fewer; a text of nothing else, a megabyte long, would hold the event loop for half a second. */
const TOKENS = 98_304;
const TOKEN = /\s+|#[^\n]*|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|[A-Za-z_][\w.+-]*|[{}[\]=,]/y;

/**
 * Parses LVM2's configuration text (lvm.conf(5), and the metadata in physical volumes): sections in braces, `key = value` with
 * numbers, quoted strings and lists. Undefined where it is something else. Takes time in proportion to the text's length.
 */
export function parseLvmText(text: string): LvmSection | undefined {
  const tokens = tokenize(text);
  if (tokens === undefined) return undefined;
  const cursor = { tokens, at: 0 };
  const section = parseSection(cursor, 0);
  return cursor.at === tokens.length ? section : undefined;
}

interface Cursor {
  readonly tokens: readonly string[];
  at: number;
}

function tokenize(text: string): string[] | undefined {
  const tokens: string[] = [];
  const token = new RegExp(TOKEN);
  while (token.lastIndex < text.length) {
    const [found] = token.exec(text) ?? [];
    if (found === undefined) return undefined;
    if (/^[\s#]/.test(found)) continue;
    if (tokens.length === TOKENS) return undefined;
    tokens.push(found);
  }
  return tokens;
}

/** Up to the closing brace, or the end. */
function parseSection(cursor: Cursor, depth: number): LvmSection | undefined {
  const section = new Map<string, LvmValue>();
  if (depth > DEPTH) return undefined;
  for (;;) {
    const name = cursor.tokens[cursor.at];
    if (name === undefined || name === "}") return section;
    const next = cursor.tokens[cursor.at + 1];
    cursor.at += 2;
    if (!/^\w/.test(name)) return undefined;
    let value: LvmValue | undefined;
    if (next === "=") value = parseValue(cursor);
    else if (next === "{") {
      value = parseSection(cursor, depth + 1);
      if (cursor.tokens[cursor.at++] !== "}") return undefined;
    }
    if (value === undefined) return undefined;
    section.set(name, value);
  }
}

function parseValue(cursor: Cursor): LvmValue | undefined {
  const token = cursor.tokens[cursor.at++];
  if (token !== "[") return token === undefined ? undefined : parseScalar(token);
  const list: LvmValue[] = [];
  for (;;) {
    const item = cursor.tokens[cursor.at++];
    if (item === "]") return list;
    if (item === ",") continue;
    const value = item === undefined ? undefined : parseScalar(item);
    if (value === undefined) return undefined;
    list.push(value);
  }
}

function parseScalar(token: string): LvmValue | undefined {
  if (token.startsWith('"')) return token.slice(1, -1).replace(/\\(.)/gs, "$1");
  return /^-?\d/.test(token) ? Number(token) : undefined;
}
