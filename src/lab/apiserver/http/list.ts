import type { KubeObject } from "../object.ts";
import { badRequest, expired, StatusError, tooLargeResourceVersion } from "../status-error.ts";
import type { Store } from "../store/store.ts";

/** How many unfinished lists are remembered; the oldest is forgotten first, and its `continue` is expired. */
const MAX_OPEN_LISTS = 100;

export interface Page {
  readonly items: readonly KubeObject[];
  readonly revision: number;
  readonly continueToken: string;
  readonly remaining: number;
}

/** Lists in pages. All pages of one list show the objects as they were when it began. */
export class Lister {
  readonly #open = new Map<string, { readonly items: readonly KubeObject[]; readonly revision: number }>();
  readonly #store: Store;
  #nextId = 1;

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * @throws StatusError Expired for a `continue` that is no longer known, BadRequest, Timeout where the wanted resource
   *   version does not exist yet
   */
  list(storageKey: string, namespace: string, selected: (object: KubeObject) => boolean, query: URLSearchParams): Page {
    const limit = limitOf(query);
    const token = query.get("continue") ?? "";
    if (token !== "") return this.#next(token, limit);
    checkRevision(query, this.#store.revision);
    const items = this.#store.list(storageKey, namespace).filter(selected);
    return this.#page(items, this.#store.revision, limit);
  }

  #next(token: string, limit: number): Page {
    const rest = this.#open.get(token);
    if (rest === undefined) {
      throw expired(
        "The provided continue parameter is too old to display a consistent list result. Start a new list without the continue parameter.",
      );
    }
    return this.#page(rest.items, rest.revision, limit);
  }

  #page(items: readonly KubeObject[], revision: number, limit: number): Page {
    if (limit === 0 || items.length <= limit) return { items, revision, continueToken: "", remaining: 0 };
    const rest = items.slice(limit);
    const continueToken = Buffer.from(`${revision}:${this.#nextId++}`).toString("base64url");
    this.#open.set(continueToken, { items: rest, revision });
    const [oldest] = this.#open.keys();
    if (this.#open.size > MAX_OPEN_LISTS && oldest !== undefined) this.#open.delete(oldest);
    return { items: items.slice(0, limit), revision, continueToken, remaining: rest.length };
  }
}

function limitOf(query: URLSearchParams): number {
  const limit = Number(query.get("limit") ?? "0");
  if (!Number.isSafeInteger(limit) || limit < 0) throw badRequest(`invalid limit: ${query.get("limit")}`);
  return limit;
}

/** What is served is always the latest: that fulfils every `resourceVersionMatch` but an exact older one. */
function checkRevision(query: URLSearchParams, current: number): void {
  const text = query.get("resourceVersion") ?? "";
  if (text === "" || text === "0") return;
  const asked = parseRevision(text);
  if (asked > current) throw tooLargeResourceVersion(asked, current);
  if (query.get("resourceVersionMatch") === "Exact" && asked !== current) {
    throw expired(`The resourceVersion for the provided list is too old: ${asked}`);
  }
}

/** @throws StatusError for what is no resource version */
export function parseRevision(text: string): number {
  if (!/^\d{1,15}$/.test(text)) {
    throw new StatusError(400, "BadRequest", `invalid resource version "${text}": must be a number`);
  }
  return Number(text);
}
