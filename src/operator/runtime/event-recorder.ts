import { createHash } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import type { Cluster } from "./cluster.ts";
import type { KubernetesObject, ResourceType } from "./objects.ts";

export interface Event extends KubernetesObject {
  kind: "Event";
  reason?: string;
  message?: string;
  count?: number;
  /** RFC 3339 times; which of them there are depends on who wrote it. */
  firstTimestamp?: string | null;
  lastTimestamp?: string | null;
  eventTime?: string | null;
  series?: { lastObservedTime?: string } | null;
}

export const EVENTS: ResourceType<Event> = { apiVersion: "v1", kind: "Event", plural: "events", namespaced: true };

export interface EventNote {
  readonly type: "Normal" | "Warning";
  /** CamelCase. */
  readonly reason: string;
  readonly message: string;
}

/** Tells people what happened to an object, as `kubectl describe` shows it. The same event again only counts up. */
export class EventRecorder {
  readonly #cluster: Cluster;
  readonly #clock: Clock;
  readonly #logger: Logger;

  constructor(cluster: Cluster, clock: Clock, logger: Logger) {
    this.#cluster = cluster;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Never fails: an event that cannot be written is only logged. */
  async record(about: KubernetesObject, note: EventNote): Promise<void> {
    const { metadata } = about;
    const namespace = metadata.namespace ?? "default";
    const digest = createHash("sha256")
      .update(`${metadata.uid}/${note.type}/${note.reason}/${note.message}`)
      .digest("hex");
    const name = `${metadata.name}.${digest.slice(0, 16)}`;
    const now = new Date(this.#clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
    try {
      const before = await this.#cluster.get(EVENTS, namespace, name);
      await this.#cluster.apply(EVENTS, {
        apiVersion: "v1",
        kind: "Event",
        metadata: { name, namespace },
        involvedObject: {
          apiVersion: about.apiVersion,
          kind: about.kind,
          name: metadata.name,
          namespace,
          uid: metadata.uid,
        },
        type: note.type,
        reason: note.reason,
        message: note.message.slice(0, 1024),
        source: { component: "vmrestore-operator" },
        reportingComponent: "vmrestore-operator",
        firstTimestamp: before?.firstTimestamp ?? now,
        lastTimestamp: now,
        count: (before?.count ?? 0) + 1,
      });
    } catch (error) {
      this.#logger.warn({ error: errorMessage(error), reason: note.reason }, "event not recorded");
    }
  }
}
