import type { ServerResponse } from "node:http";
import type { JsonValue } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { apiVersionOf, type ResourceDefinition } from "../registry/definition.ts";
import { badRequest, invalid, StatusError } from "../status-error.ts";
import type { Change, Store } from "../store/store.ts";
import { parseRevision } from "./list.ts";
import type { Presenter } from "./representation.ts";

const BOOKMARK_INTERVAL_MS = 30_000;
/** As the real server: a time between 30 and 60 minutes, so that clients don't all come back at once. */
const DEFAULT_TIMEOUT_S = 1800;
/** The longest a timer of Node can wait. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** A client that does not read is cut off, and lists again. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024;

export interface WatchRequest {
  readonly definition: ResourceDefinition;
  readonly version: string;
  readonly selected: (object: KubeObject) => boolean;
  readonly namespace: string;
  readonly presenter: Presenter;
  readonly query: URLSearchParams;
}

/** Streams the changes of a collection as lines of JSON until the client goes, the time is up or `stop` aborts. */
export function serveWatch(
  store: Store,
  request: WatchRequest,
  response: ServerResponse,
  now: () => number,
  stop: AbortSignal,
): void {
  const start = startOf(request);
  response.writeHead(200, { "content-type": "application/json", "cache-control": "no-cache, private" });
  response.flushHeaders();
  new WatchStream(store, request, response, now, stop).run(start);
}

interface Start {
  readonly timeoutMs: number;
  /** Undefined: begin with what is there now. */
  readonly after: number | undefined;
  readonly initialEventsEnd: boolean;
  readonly initialEvents: boolean;
}

function startOf({ query, definition }: WatchRequest): Start {
  const text = query.get("resourceVersion") ?? "";
  const send = query.get("sendInitialEvents");
  if (send !== null && query.get("resourceVersionMatch") !== "NotOlderThan") {
    throw invalid("meta.k8s.io", "ListOptions", "", [
      {
        reason: "FieldValueForbidden",
        message: "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        field: "resourceVersionMatch",
      },
    ]);
  }
  if (send === null && query.get("resourceVersionMatch") !== null) {
    throw badRequest(
      `resourceVersionMatch is forbidden for watch of ${definition.resource} unless sendInitialEvents is provided`,
    );
  }
  const timeout = timeoutMs(query);
  const after = text === "" || text === "0" ? undefined : parseRevision(text);
  if (send === "true") {
    const initialEventsEnd = isTrue(query.get("allowWatchBookmarks"));
    return { timeoutMs: timeout, after: undefined, initialEvents: true, initialEventsEnd };
  }
  if (send === "false") return { timeoutMs: timeout, after, initialEvents: false, initialEventsEnd: false };
  return { timeoutMs: timeout, after, initialEvents: after === undefined, initialEventsEnd: false };
}

const isTrue = (text: string | null) => text === "true" || text === "1";

class WatchStream {
  readonly #store: Store;
  readonly #request: WatchRequest;
  readonly #response: ServerResponse;
  readonly #now: () => number;
  readonly #stop: AbortSignal;
  #sentColumns = false;
  #revision = 0;
  #ended = false;

  constructor(store: Store, request: WatchRequest, response: ServerResponse, now: () => number, stop: AbortSignal) {
    this.#store = store;
    this.#request = request;
    this.#response = response;
    this.#now = now;
    this.#stop = stop;
  }

  run(start: Start): void {
    const { definition, query, selected, namespace } = this.#request;
    const { storageKey } = definition;
    const after = start.after ?? this.#store.revision;
    this.#revision = after;
    if (start.initialEvents) {
      for (const object of this.#store.list(storageKey, namespace)) if (selected(object)) this.#send("ADDED", object);
      if (start.initialEventsEnd) this.#bookmark(true);
    }
    let unwatch: () => void;
    try {
      unwatch = this.#store.watch(storageKey, after, (change) => this.#tell(change));
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      this.#write({ type: "ERROR", object: error.status });
      this.#response.end();
      return;
    }
    const bookmarks = isTrue(query.get("allowWatchBookmarks"))
      ? setInterval(() => this.#bookmark(false), BOOKMARK_INTERVAL_MS)
      : undefined;
    const end = () => {
      if (this.#ended) return;
      this.#ended = true;
      unwatch();
      clearInterval(bookmarks);
      clearTimeout(timer);
      this.#stop.removeEventListener("abort", end);
      if (bookmarks !== undefined && !this.#response.destroyed) this.#bookmark(false);
      this.#response.end();
    };
    const timer = setTimeout(end, start.timeoutMs);
    this.#stop.addEventListener("abort", end);
    this.#response.on("close", end);
    if (this.#stop.aborted) end();
  }

  /** What the change means to a watcher that sees only some of the objects. */
  #tell(change: Change): void {
    const { selected } = this.#request;
    this.#revision = change.revision;
    const was = change.previous !== undefined && selected(change.previous);
    const is = change.type !== "DELETED" && selected(change.object);
    if (is) this.#send(was ? "MODIFIED" : "ADDED", change.object);
    else if (was)
      this.#send("DELETED", withRevision(change.type === "DELETED" ? change.object : change.previous, change));
  }

  #send(type: "ADDED" | "MODIFIED" | "DELETED", object: KubeObject | undefined): void {
    if (object === undefined) return;
    this.#write({ type, object: this.#request.presenter.one(object, this.#now(), !this.#sentColumns) });
    this.#sentColumns = true;
  }

  #bookmark(endsInitialEvents: boolean): void {
    const { definition, version } = this.#request;
    const annotations = endsInitialEvents ? { annotations: { "k8s.io/initial-events-end": "true" } } : {};
    this.#write({
      type: "BOOKMARK",
      object: {
        kind: definition.kind,
        apiVersion: apiVersionOf(definition.group, version),
        metadata: {
          resourceVersion: String(Math.max(this.#revision, this.#store.revision)),
          creationTimestamp: null,
          ...annotations,
        },
      },
    });
  }

  #write(event: JsonValue): void {
    if (this.#response.destroyed || this.#response.writableEnded) return;
    this.#response.write(`${JSON.stringify(event)}\n`);
    if (this.#response.writableLength > MAX_UNSENT_BYTES) this.#response.destroy();
  }
}

function withRevision(object: KubeObject | undefined, change: Change): KubeObject | undefined {
  if (object === undefined) return undefined;
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(change.revision) } };
}

function timeoutMs(query: URLSearchParams): number {
  const seconds = Number(query.get("timeoutSeconds") ?? "0");
  if (!Number.isSafeInteger(seconds) || seconds < 0)
    throw badRequest(`invalid timeoutSeconds: ${query.get("timeoutSeconds")}`);
  const wanted = seconds === 0 ? DEFAULT_TIMEOUT_S * (1 + Math.random()) : seconds;
  return Math.min(1000 * wanted, MAX_TIMER_MS);
}
