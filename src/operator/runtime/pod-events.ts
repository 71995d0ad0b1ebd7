import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/logging.ts";
import { EVENTS, type Event } from "./event-recorder.ts";
import { Reflector } from "./reflector.ts";
import type { Transport } from "./transport.ts";

/** The pod that somebody looks at. */
export interface WatchedPod {
  readonly namespace: string;
  readonly uid: string;
}

export interface PodEventsOptions {
  readonly transport: Pick<Transport, "request" | "watch">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told the key of whoever looks when something new is said. */
  readonly queue: { add(key: string): void };
  /** Ends every watch. */
  readonly signal: AbortSignal;
}

interface Watch {
  readonly uid: string;
  readonly reflector: Reflector<Event>;
  readonly end: AbortController;
}

/**
 * What scheduler, kubelet and volume controllers say about single pods. Events bear no labels of ours, so each pod's are watched by
 * themselves, from the first look until the last; nobody else's are ever read.
 */
export class PodEvents {
  readonly #options: PodEventsOptions;
  readonly #watches = new Map<string, Watch>();

  constructor(options: PodEventsOptions) {
    this.#options = options;
  }

  /**
   * What is known now of the events of a pod: nothing at the first look.
   *
   * @param key who looks, at one pod at a time: a key of the queue
   * @param pod undefined: at none any more
   */
  look(key: string, pod: WatchedPod | undefined): readonly Event[] {
    const before = this.#watches.get(key);
    if (before !== undefined && before.uid === pod?.uid) return [...before.reflector.objects()];
    before?.end.abort();
    this.#watches.delete(key);
    if (pod !== undefined) this.#watches.set(key, this.#watch(key, pod));
    return [];
  }

  #watch(key: string, { namespace, uid }: WatchedPod): Watch {
    const { transport, clock, logger, queue, signal } = this.#options;
    const end = new AbortController();
    const reflector = new Reflector<Event>({
      ...{ transport, clock, logger, namespace },
      type: EVENTS,
      fieldSelector: `involvedObject.uid=${uid}`,
      onChange: () => queue.add(key),
    });
    // It ends with its signal and never fails.
    void reflector.run(AbortSignal.any([signal, end.signal]));
    return { uid, reflector, end };
  }
}
