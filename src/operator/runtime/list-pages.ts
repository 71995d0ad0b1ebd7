import { ApiError, isExpired } from "./errors.ts";
import type { KubernetesObject, ResourceType } from "./objects.ts";

const PAGE = 500;
/** A server whose pages never end is not followed for ever. */
const MOST_PAGES = 10_000;

interface Page<T> {
  items?: T[];
  metadata?: { continue?: string; resourceVersion?: string };
}

export interface Listed<T> {
  readonly items: T[];
  /** Of the whole list: a watch goes on from here. */
  readonly resourceVersion: string;
}

/**
 * Lists in pages, all of one moment. Where that moment is forgotten before the last page came (410), once more and in one piece,
 * which cannot expire.
 *
 * @param path without a query
 */
export async function listPages<T extends KubernetesObject>(
  request: (path: string) => Promise<unknown>,
  type: ResourceType<T>,
  path: string,
  labelSelector: string | undefined,
  fieldSelector?: string,
): Promise<Listed<T>> {
  const ask = async (query: Record<string, string>): Promise<Page<T>> => {
    const all = new URLSearchParams({
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
      ...query,
    });
    return (await request(all.size === 0 ? path : `${path}?${all}`)) as Page<T>;
  };
  // Items of a list bear neither kind nor version.
  const whole = (items: T[] | undefined) =>
    (items ?? []).map((item): T => ({ ...item, apiVersion: type.apiVersion, kind: type.kind }));
  const limit = String(PAGE);
  let page = await ask({ limit });
  const items = whole(page.items);
  for (let pages = 1; (page.metadata?.continue ?? "") !== ""; pages++) {
    if (pages === MOST_PAGES) throw new ApiError(`GET ${path}: over ${MOST_PAGES} pages`);
    try {
      page = await ask({ limit, continue: page.metadata?.continue ?? "" });
    } catch (error) {
      if (!isExpired(error)) throw error;
      const piece = await ask({});
      return { items: whole(piece.items), resourceVersion: piece.metadata?.resourceVersion ?? "" };
    }
    for (const item of whole(page.items)) items.push(item);
  }
  return { items, resourceVersion: page.metadata?.resourceVersion ?? "" };
}
