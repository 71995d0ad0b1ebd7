import { deferred } from "../../base/deferred.ts";
import * as kinds from "../kinds.ts";
import { ApiError } from "../runtime/errors.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { matchesLabels } from "../runtime/label-selector.ts";
import type { Manifest, ResourceType } from "../runtime/objects.ts";
import type { FakeCluster } from "../runtime/testing/fake-cluster.ts";
import type { ApiRequest } from "../runtime/transport.ts";

interface Event {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: Manifest;
}

interface Watch {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly selector: string | undefined;
  readonly about: string | undefined;
  readonly queue: Event[];
  awake: () => void;
  isCut: boolean;
}

const TYPES = new Map(
  ([...Object.values(kinds), EVENTS] as ResourceType[]).map(
    (type) => [`${type.apiVersion}/${type.plural}`, type] as const,
  ),
);

/** Lists and watches of a cluster in memory. Watches may be held up, for a while or one by one, and broken off. */
export class FakeTransport {
  readonly lists: string[] = [];
  /** Asked before an event is handed out: whether it has come yet. */
  isHeldUp: (type: ResourceType) => boolean = () => false;
  readonly #cluster: FakeCluster;
  readonly #watches = new Set<Watch>();
  /** What has happened, by version. */
  readonly #log: { version: number; object: Manifest; before: Manifest | undefined; is: "present" | "gone" }[] = [];

  constructor(cluster: FakeCluster) {
    this.#cluster = cluster;
    cluster.onChange = (object, before, is) => {
      this.#log.push({ version: Number(object.metadata.resourceVersion), object, before, is });
      for (const watch of this.#watches) tell(watch, object, before, is);
    };
  }

  /** Watches that are open now, by plural. */
  get watching(): string[] {
    return [...this.#watches].map(({ type }) => type.plural);
  }

  /** Lets events go on that were held up. */
  release(): void {
    for (const watch of this.#watches) watch.awake();
  }

  /** Breaks all watches off. */
  cut(): void {
    for (const watch of this.#watches) {
      watch.isCut = true;
      watch.awake();
    }
  }

  request = async ({ path }: Pick<ApiRequest, "path">): Promise<unknown> => {
    const { type, namespace, selector, about } = parse(path);
    this.lists.push(path);
    const items = this.#cluster
      .all(type)
      .filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace)
      .filter(({ metadata }) => matchesLabels(metadata.labels, selector))
      .filter((object) => isAbout(object, about));
    return { items, metadata: { resourceVersion: this.#cluster.version } };
  };

  async *watch(path: string, signal: AbortSignal): AsyncGenerator<unknown> {
    const { type, namespace, selector, about, version } = parse(path);
    const watch: Watch = { type, namespace, selector, about, queue: [], awake: () => undefined, isCut: false };
    for (const past of this.#log.filter((entry) => entry.version > version))
      tell(watch, past.object, past.before, past.is);
    this.#watches.add(watch);
    const abort = () => watch.awake();
    signal.addEventListener("abort", abort);
    try {
      while (!signal.aborted) {
        if (watch.isCut) throw new ApiError("read ECONNRESET");
        const next = this.isHeldUp(type) ? undefined : watch.queue.shift();
        if (next !== undefined) yield JSON.parse(JSON.stringify(next));
        else {
          const awake = deferred();
          watch.awake = awake.resolve;
          await awake.promise;
        }
      }
    } finally {
      this.#watches.delete(watch);
      signal.removeEventListener("abort", abort);
    }
  }
}

function tell(watch: Watch, object: Manifest, before: Manifest | undefined, is: "present" | "gone"): void {
  const sees = (one: Manifest | undefined) =>
    one !== undefined &&
    one.kind === watch.type.kind &&
    (watch.namespace === undefined || one.metadata.namespace === watch.namespace) &&
    matchesLabels(one.metadata.labels, watch.selector) &&
    isAbout(one, watch.about);
  const was = sees(before);
  const remains = is === "present" && sees(object);
  if (!was && !remains) return;
  watch.queue.push({ type: remains ? (was ? "MODIFIED" : "ADDED") : "DELETED", object });
  watch.awake();
}

/** @param uid undefined: whatever it is about */
function isAbout(object: object, uid: string | undefined): boolean {
  return uid === undefined || (object as { involvedObject?: { uid?: string } }).involvedObject?.uid === uid;
}

function parse(path: string) {
  const url = new URL(path, "http://server");
  const [, core, group, namespace, plural] =
    /^\/(?:api\/([^/]+)|apis\/([^/]+\/[^/]+))(?:\/namespaces\/([^/]+))?\/([^/]+)$/.exec(url.pathname) ?? [];
  const type = TYPES.get(`${core ?? group}/${plural}`);
  if (type === undefined) throw new ApiError(`${path}: no such kind`, { status: 404 });
  return {
    type,
    namespace,
    selector: url.searchParams.get("labelSelector") ?? undefined,
    /** The one field selector that is known here. */
    about: /^involvedObject\.uid=(.*)$/.exec(url.searchParams.get("fieldSelector") ?? "")?.[1],
    version: Number(url.searchParams.get("resourceVersion") ?? 0),
  };
}
