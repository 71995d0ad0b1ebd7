import { ByteReader } from "../base/bytes.ts";
import type { NbdExport } from "./export.ts";
import { BASE_ALLOCATION } from "./protocol.ts";

const QUERY_LIMIT = 64;
const NAME_LIMIT = 4096;
/** Before each query. */
const LENGTH_BYTES = 4;

/** A context that was negotiated; block-status replies name it by its id. */
export interface MetaContext {
  readonly id: number;
  readonly name: string;
}

/** The body of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function parseMetaContextQuery(
  body: Buffer,
): { readonly exportName: string; readonly queries: readonly string[] } | "malformed" | "too many" {
  try {
    const reader = new ByteReader(body);
    const name = (): string => {
      const length = reader.u32be();
      if (length > NAME_LIMIT) throw new RangeError("name too long");
      return reader.bytes(length).toString("utf8");
    };
    const exportName = name();
    const count = reader.u32be();
    if (count * LENGTH_BYTES > reader.remaining) return "malformed";
    if (count > QUERY_LIMIT) return "too many";
    const queries = Array.from({ length: count }, name);
    return reader.remaining === 0 ? { exportName, queries } : "malformed";
  } catch {
    return "malformed";
  }
}

/** The contexts of an export that the queries ask for. When listing, a namespace alone (`base:`) asks for all of it, and nothing for all. */
export function selectContexts(target: NbdExport, queries: readonly string[], isListing: boolean): MetaContext[] {
  const offered = [BASE_ALLOCATION, ...target.metaContexts()].map((name, index) => ({ id: index + 1, name }));
  if (isListing && queries.length === 0) return offered;
  return offered.filter(({ name }) =>
    queries.some((query) => query === name || (isListing && query.endsWith(":") && name.startsWith(query))),
  );
}
