import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import { ApiError, isExpired } from "./errors.ts";
import { type KubernetesObject, type ResourceType, resourcePath } from "./objects.ts";
import type { Transport } from "./transport.ts";

const RETRY_MS = { first: 200, most: 30_000 };
/** The server ends a watch after this long; it is taken up again where it was. */
const WATCH_SECONDS = 300;

export interface ReflectorOptions<T extends KubernetesObject> {
  readonly transport: Pick<Transport, "request" | "watch">;
  readonly type: ResourceType<T>;
  /** Undefined: all namespaces. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  /** Called for each object at the beginning, when it changes, and when it is gone. Must not throw. */
  readonly onChange: (object: T) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface WatchEvent<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T & { code?: number; message?: string; reason?: string };
}

/**
 * Tells of every change of one kind's objects, whatever happens to the connection: lists, watches from there, takes the
 * watch up again where it was lost, and lists anew where the server no longer knows that place (410). What vanished while
 * nobody watched is told when the next list lacks it.
 */
export class Reflector<T extends KubernetesObject> {
  readonly #options: ReflectorOptions<T>;
  /** The last that was told of each object, by uid. */
  readonly #known = new Map<string, T>();
  #synced = false;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
  }

  /** Whether everything was listed at least once. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Runs until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger, type } = this.#options;
    let version: string | undefined;
    let delay = RETRY_MS.first;
    while (!signal.aborted) {
      try {
        version ??= await this.#list(signal);
        for await (const next of this.#watch(version, signal)) {
          version = next;
          delay = RETRY_MS.first;
        }
        // A server that ends each watch at once is not asked in a tight loop.
        await clock.sleep(RETRY_MS.first, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (isExpired(error)) {
          version = undefined;
          await clock.sleep(RETRY_MS.first, signal).catch(() => undefined);
          continue;
        }
        logger.warn({ kind: type.kind, error: errorMessage(error), retryMs: delay }, "watch lost");
        await clock.sleep(delay, signal).catch(() => undefined);
        delay = Math.min(RETRY_MS.most, delay * 2);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { transport, type, onChange } = this.#options;
    const query = this.#query();
    const answer = (await transport.request({
      method: "GET",
      path: `${this.#path()}${query.size > 0 ? `?${query}` : ""}`,
      signal,
    })) as { items?: T[]; metadata?: { resourceVersion?: string } };
    const gone = new Map(this.#known);
    this.#known.clear();
    for (const item of answer.items ?? []) {
      const object: T = { ...item, apiVersion: type.apiVersion, kind: type.kind };
      const uid = object.metadata.uid ?? "";
      const before = gone.get(uid);
      gone.delete(uid);
      this.#known.set(uid, object);
      if (before?.metadata.resourceVersion !== object.metadata.resourceVersion || before === undefined)
        onChange(object);
    }
    for (const object of gone.values()) onChange(object);
    this.#synced = true;
    return answer.metadata?.resourceVersion ?? "";
  }

  async *#watch(version: string, signal: AbortSignal): AsyncGenerator<string> {
    const query = this.#query();
    query.set("watch", "true");
    query.set("allowWatchBookmarks", "true");
    query.set("timeoutSeconds", String(WATCH_SECONDS));
    query.set("resourceVersion", version);
    for await (const line of this.#options.transport.watch(`${this.#path()}?${query}`, signal)) {
      const { type, object } = line as WatchEvent<T>;
      if (type === "ERROR") {
        throw new ApiError(object.message ?? "the watch failed", { status: object.code ?? 500, reason: object.reason });
      }
      if (type !== "BOOKMARK") {
        const uid = object.metadata.uid ?? "";
        if (type === "DELETED") this.#known.delete(uid);
        else this.#known.set(uid, object);
        this.#options.onChange(object);
      }
      yield object.metadata.resourceVersion ?? version;
    }
  }

  #path(): string {
    return resourcePath(this.#options.type, this.#options.namespace);
  }

  #query(): URLSearchParams {
    const { labelSelector } = this.#options;
    return new URLSearchParams(labelSelector === undefined ? {} : { labelSelector });
  }
}
