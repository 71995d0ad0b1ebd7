/** One page of a listing (ListObjectsV2). */
export interface ObjectPage {
  readonly keys: readonly string[];
  /** Where the next page begins; undefined after the last. */
  readonly next: string | undefined;
}

/** @returns undefined where it is no listing */
export function parsePage(xml: string): ObjectPage | undefined {
  if (!/<ListBucketResult[\s>]/.test(xml)) return undefined;
  const keys = [...xml.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key = ""]) => unescaped(key));
  if (textOf(xml, "IsTruncated") !== "true") return { keys, next: undefined };
  const next = textOf(xml, "NextContinuationToken");
  return next === undefined || next === "" ? undefined : { keys, next };
}

/** The stable code in an error's XML; undefined where there is none that could be one. */
export function errorCodeIn(xml: string): string | undefined {
  const code = /<Error>[\s\S]*?<Code>([A-Za-z0-9.]{1,64})<\/Code>/.exec(xml)?.[1];
  return code;
}

/** The region that a bucket is in, where an error says so. */
export function regionIn(xml: string): string | undefined {
  return /<Region>([a-z0-9-]{1,32})<\/Region>/.exec(xml)?.[1];
}

function textOf(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return found === undefined ? undefined : unescaped(found);
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function unescaped(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));/g, (whole, decimal, hex, name) => {
    if (name !== undefined) return ENTITIES[name as string] ?? whole;
    const point = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
    return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
  });
}
