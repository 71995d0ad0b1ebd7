import { errorMessage } from "../../base/errors.ts";
import { PODS } from "../controllers/kinds.ts";
import type { LabContext } from "../controllers/lab-controller.ts";
import type { NodePod, PodStatus } from "./pod-spec.ts";

const RETRY_MS = 500;

/** Writes pods' statuses: each pod's one after the other, only the newest, again where it failed. */
export class StatusSender {
  readonly #context: Pick<LabContext, "cluster" | "clock" | "logger">;
  readonly #signal: AbortSignal;
  readonly #newest = new Map<string, { pod: NodePod; status: PodStatus }>();
  readonly #sending = new Set<string>();

  /** @param signal ends it: nothing more is written, what waits for another attempt is forgotten */
  constructor(context: Pick<LabContext, "cluster" | "clock" | "logger">, signal: AbortSignal) {
    this.#context = context;
    this.#signal = signal;
  }

  publish(pod: NodePod, key: string, status: PodStatus): void {
    this.#newest.set(key, { pod, status });
    if (this.#sending.has(key)) return;
    this.#sending.add(key);
    void this.#send(key).finally(() => this.#sending.delete(key));
  }

  /** What is still to be written of a pod is not written any more. */
  forget(key: string): void {
    this.#newest.delete(key);
  }

  async #send(key: string): Promise<void> {
    const { cluster, clock, logger } = this.#context;
    for (let next = this.#newest.get(key); next !== undefined; next = this.#newest.get(key)) {
      this.#newest.delete(key);
      const { name, namespace = "", uid = "" } = next.pod.metadata;
      const object = { apiVersion: "v1", kind: "Pod", metadata: { name, namespace, uid }, status: next.status };
      try {
        await cluster.applyStatus(PODS, object);
      } catch (error) {
        if (this.#signal.aborted) return;
        const { status } = error as { status?: number };
        if (status === 404 || status === 409) continue;
        logger.warn({ pod: key, error: errorMessage(error) }, "status not written");
        if (!this.#newest.has(key)) this.#newest.set(key, next);
        await clock.sleep(RETRY_MS, this.#signal).catch(() => undefined);
        if (this.#signal.aborted) return;
      }
    }
  }
}
