import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import { ApiError, isExpired } from "./errors.ts";
import { listPages } from "./list-pages.ts";
import { type KubernetesObject, type ResourceType, resourcePath } from "./objects.ts";
import type { Transport } from "./transport.ts";

const RETRY_MS = { first: 200, most: 30_000 };
/** A watch that lasted so long was a good one: its end is no reason to wait. */
const STEADY_MS = 10_000;
/** The server ends a watch after this long; it is taken up again where it was. */
const WATCH_SECONDS = 300;
/** Bookmarks come once a minute at the latest: a watch that is silent for longer is dead, or looks at another past than ours. */
const SILENCE_MS = 150_000;

export interface ReflectorOptions<T extends KubernetesObject> {
  readonly transport: Pick<Transport, "request" | "watch">;
  readonly type: ResourceType<T>;
  /** Undefined: all namespaces. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Called for each object at the beginning, when it changes, and with its last state when it is gone. Must not throw. */
  readonly onChange: (object: T, is: "present" | "gone") => void;
  /** What is remembered and told of an object; default: everything but who manages which field. */
  readonly keep?: (object: T) => T;
  readonly clock: Clock;
  readonly logger: Logger;
  /** From 0 to 1, 1 excluded; spreads retries. Default: Math.random. */
  readonly random?: () => number;
}

interface WatchEvent<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T & { code?: number; message?: string; reason?: string };
}

/**
 * Tells of every change of one kind's objects, whatever happens to the connection: lists, watches from there, takes the
 * watch up again where it was lost, and lists anew where the server no longer knows that place (410), where it is at an earlier
 * place than ours (it was put back from a backup), and where the watch fell silent. What vanished while nobody watched is told
 * when the next list lacks it. Retries wait longer each time, and at different times each.
 */
export class Reflector<T extends KubernetesObject> {
  readonly #options: ReflectorOptions<T>;
  /** The last that was told of each object, by uid. */
  #known = new Map<string, T>();
  /** The same by namespace and name. */
  #named = new Map<string, T>();
  #synced = false;
  #failed = false;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
  }

  get type(): ResourceType<T> {
    return this.#options.type;
  }

  get namespace(): string | undefined {
    return this.#options.namespace;
  }

  /** The object as it was told last. */
  get(namespace: string | undefined, name: string): T | undefined {
    return this.#named.get(`${namespace ?? ""}/${name}`);
  }

  /** All objects as they were told last. */
  objects(): Iterable<T> {
    return this.#known.values();
  }

  /** Whether everything was listed at least once. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Whether everything was listed, or could not be at the first attempt. */
  get tried(): boolean {
    return this.#synced || this.#failed;
  }

  /** Runs until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger, type, random = Math.random } = this.#options;
    let version: string | undefined;
    let delay = RETRY_MS.first;
    while (!signal.aborted) {
      const began = clock.monotonic();
      let moved = false;
      try {
        version ??= await this.#list(signal);
        for await (const next of this.#watch(version, signal)) {
          version = next;
          moved = true;
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#failed = true;
        if (!mayResume(error)) version = undefined;
        if (!isExpired(error))
          logger.warn({ kind: type.kind, error: errorMessage(error), retryMs: delay }, "watch lost");
      }
      // A server that ends each watch at once, or expires each place at once, is not asked in a tight loop.
      if (moved || clock.monotonic() - began >= STEADY_MS) delay = RETRY_MS.first;
      await clock.sleep(delay * (1 + random() / 2), signal).catch(() => undefined);
      delay = Math.min(RETRY_MS.most, delay * 2);
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { transport, type, labelSelector, fieldSelector, onChange } = this.#options;
    const request = (path: string) => transport.request({ method: "GET", path, signal });
    const { items, resourceVersion } = await listPages(request, type, this.#path(), labelSelector, fieldSelector);
    const before = this.#known;
    const now = new Map(items.map((object) => [object.metadata.uid ?? "", this.#kept(object)]));
    this.#known = now;
    this.#named = new Map([...now.values()].map((object) => [nameOf(object), object]));
    for (const [uid, object] of before) if (!now.has(uid)) onChange(object, "gone");
    for (const [uid, object] of now) {
      const old = before.get(uid);
      if (old === undefined || old.metadata.resourceVersion !== object.metadata.resourceVersion)
        onChange(object, "present");
    }
    this.#synced = true;
    return resourceVersion;
  }

  async *#watch(version: string, signal: AbortSignal): AsyncGenerator<string> {
    const { transport, labelSelector, fieldSelector, onChange } = this.#options;
    const query = new URLSearchParams({
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(WATCH_SECONDS),
      resourceVersion: version,
    });
    const guard = this.#guardAgainstSilence(signal);
    let at = version;
    try {
      for await (const line of transport.watch(`${this.#path()}?${query}`, guard.signal)) {
        guard.heard();
        const { type, object: sent } = line as WatchEvent<T>;
        if (type === "ERROR") {
          const { message = "the watch failed", code: status = 500, reason } = sent;
          throw new ApiError(message, { status, reason });
        }
        const object = this.#kept(sent);
        const { uid = "", resourceVersion: next } = object.metadata;
        if (isBehind(next, at, type === "BOOKMARK")) throw new ApiError("the server went back", { status: 410 });
        at = next ?? at;
        if (type === "DELETED") {
          this.#known.delete(uid);
          if (this.#named.get(nameOf(object))?.metadata.uid === uid) this.#named.delete(nameOf(object));
        } else if (type === "ADDED" || type === "MODIFIED") {
          this.#known.set(uid, object);
          this.#named.set(nameOf(object), object);
        } else if (type !== "BOOKMARK") throw new TypeError(`a watch event of unknown type ${type}`);
        if (type !== "BOOKMARK") onChange(object, type === "DELETED" ? "gone" : "present");
        yield at;
      }
    } catch (error) {
      throw guard.silent.aborted ? guard.silent.reason : error;
    } finally {
      guard.end();
    }
    guard.silent.throwIfAborted();
  }

  /** A signal that is aborted with ours, and when nothing was heard for too long. */
  #guardAgainstSilence(signal: AbortSignal) {
    const { clock } = this.#options;
    const ended = new AbortController();
    const silent = new AbortController();
    let last = clock.monotonic();
    const watch = async (): Promise<void> => {
      for (let left = SILENCE_MS; left > 0; left = last + SILENCE_MS - clock.monotonic())
        await clock.sleep(left, ended.signal);
      silent.abort(new SilentWatchError());
    };
    watch().catch(() => undefined);
    return {
      signal: AbortSignal.any([signal, silent.signal]),
      silent: silent.signal,
      heard: () => {
        last = clock.monotonic();
      },
      end: () => ended.abort(),
    };
  }

  #kept(object: T): T {
    const { keep } = this.#options;
    delete object.metadata.managedFields;
    return keep === undefined ? object : keep(object);
  }

  #path(): string {
    return resourcePath(this.#options.type, this.#options.namespace);
  }
}

function nameOf({ metadata }: KubernetesObject): string {
  return `${metadata.namespace ?? ""}/${metadata.name}`;
}

/** Whether the place that was reached is still one to go on from: the connection was lost, or the server was busy. */
function mayResume(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  // A server behind a load balancer that has not come so far, or one that never will.
  if (/too large resource version/i.test(error.message)) return false;
  return error.status === undefined || error.status === 429 || error.status >= 500;
}

/**
 * Whether an event is at a place where we have been already, which only a server that went back to an earlier time sends; a bookmark
 * may name the place where we are. Places are compared only where both are numbers, as all Kubernetes servers write them.
 */
function isBehind(next: string | undefined, at: string, isBookmark: boolean): boolean {
  if (next === undefined || !/^\d{1,20}$/.test(next) || !/^\d{1,20}$/.test(at)) return false;
  return isBookmark ? BigInt(next) < BigInt(at) : BigInt(next) <= BigInt(at);
}

class SilentWatchError extends Error {
  constructor() {
    super("the watch was silent for too long");
  }
}
