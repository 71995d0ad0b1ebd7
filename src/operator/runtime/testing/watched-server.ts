import { deferred } from "../../../base/deferred.ts";
import { ApiError } from "../errors.ts";
import type { KubernetesObject } from "../objects.ts";
import type { ApiRequest } from "../transport.ts";

interface Change {
  readonly version: number;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: KubernetesObject;
}

/** One kind of objects on an API server that forgets, falls silent, breaks off and is put back from backups, as a test says. */
export class WatchedServer {
  readonly asked: string[] = [];
  /** Objects of a page at most, whatever the client wants. */
  pageSize = 2;
  /** Called before each page and each watch; what it throws is the answer. */
  before: (path: string) => void = () => undefined;
  #version = 10;
  #forgotten = 0;
  #epoch = 0;
  #objects = new Map<string, KubernetesObject>();
  #log: Change[] = [];
  readonly #pages = new Map<string, { items: KubernetesObject[]; version: number }>();
  #changed = deferred();
  readonly #queues = new Set<Change[]>();
  readonly #cuts = new Set<(how: "reset" | "end" | "silent" | "gone" | "failed") => void>();

  get objects(): ReadonlyMap<string, KubernetesObject> {
    return this.#objects;
  }

  get watches(): number {
    return this.#cuts.size;
  }

  put(name: string): void {
    const before = this.#objects.get(name);
    const version = ++this.#version;
    const uid = before?.metadata.uid ?? `${name}-${this.#epoch}-${version}`;
    const metadata = { name, namespace: "n", uid, resourceVersion: String(version) };
    const object = { apiVersion: "v1", kind: "Pod", metadata };
    this.#objects.set(name, object);
    this.#tell({ version, type: before === undefined ? "ADDED" : "MODIFIED", object });
  }

  remove(name: string): void {
    const before = this.#objects.get(name);
    if (before === undefined) return;
    this.#objects.delete(name);
    const version = ++this.#version;
    const object = { ...before, metadata: { ...before.metadata, resourceVersion: String(version) } };
    this.#tell({ version, type: "DELETED", object });
  }

  /** Something else in the cluster changed: only a bookmark tells. */
  pass(): void {
    this.#version++;
    this.#changed.resolve();
    this.#changed = deferred();
  }

  /** Forgets what was before now: pages and places. */
  compact(): void {
    this.#forgotten = this.#version;
    this.#log = [];
    this.#pages.clear();
  }

  /** Is put back from a backup: fewer versions, other objects. Watches go on as if nothing was. */
  restore(versions: number): void {
    this.#epoch++;
    this.#version = Math.max(1, this.#version - versions);
    const kept = [...this.#objects].filter(([, { metadata }]) => Number(metadata.resourceVersion) <= this.#version);
    this.#objects = new Map(kept);
    this.compact();
    this.#forgotten = 0;
  }

  cut(how: "reset" | "end" | "silent" | "gone" | "failed"): void {
    for (const cut of [...this.#cuts]) cut(how);
  }

  request = async ({ path }: Pick<ApiRequest, "path">): Promise<unknown> => {
    this.asked.push(path);
    this.before(path);
    const query = new URL(path, "http://server").searchParams;
    const token = query.get("continue");
    const page = token === null ? undefined : this.#pages.get(token);
    if (token !== null && page === undefined) throw new ApiError("too old", { status: 410, reason: "Expired" });
    const { items, version } = page ?? { items: [...this.#objects.values()], version: this.#version };
    const limit = query.has("limit") ? this.pageSize : items.length;
    const rest = items.slice(limit);
    const next = rest.length === 0 ? "" : `${version}-${this.#pages.size}-${rest.length}`;
    if (next !== "") this.#pages.set(next, { items: rest, version });
    return { items: items.slice(0, limit), metadata: { resourceVersion: String(version), continue: next } };
  };

  async *watch(path: string, signal: AbortSignal): AsyncGenerator<unknown> {
    this.asked.push(path);
    this.before(path);
    let at = Number(new URL(path, "http://server").searchParams.get("resourceVersion"));
    if (at < this.#forgotten) throw new ApiError("too old", { status: 410, reason: "Expired" });
    let how: "reset" | "end" | "silent" | "gone" | "failed" | undefined;
    const cut = deferred();
    const note = (what: typeof how) => {
      how ??= what;
      cut.resolve();
    };
    this.#cuts.add(note);
    // What was sent to a watch that is open is not forgotten.
    const queue = this.#log.filter(({ version }) => version > at);
    this.#queues.add(queue);
    try {
      for (;;) {
        if (signal.aborted) throw new ApiError("aborted", { cause: signal.reason });
        if (how === "reset") throw new ApiError("read ECONNRESET");
        if (how === "end") return;
        if (how === "gone" || how === "failed") {
          const code = how === "gone" ? 410 : 500;
          yield { type: "ERROR", object: { code, reason: "Expired", message: "the watch was ended" } };
          return;
        }
        const next = how === "silent" ? undefined : queue.shift();
        if (next !== undefined) {
          at = next.version;
          yield { type: next.type, object: next.object };
          continue;
        }
        if (how === undefined && this.#version !== at) {
          at = this.#version;
          yield { type: "BOOKMARK", object: { metadata: { resourceVersion: String(at) } } };
          continue;
        }
        const aborted = deferred();
        signal.addEventListener("abort", () => aborted.resolve(), { once: true });
        await Promise.race([this.#changed.promise, aborted.promise, ...(how === undefined ? [cut.promise] : [])]);
      }
    } finally {
      this.#cuts.delete(note);
      this.#queues.delete(queue);
    }
  }

  #tell(change: Change): void {
    this.#log.push(change);
    for (const queue of this.#queues) queue.push(change);
    this.#changed.resolve();
    this.#changed = deferred();
  }
}
