import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { RESTORE_PHASES, type RestorePhase } from "../../api/vm-restore-status.ts";
import type { AskedRequest } from "./transport.ts";

const STEP_SECONDS = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400];

/** What the operator counts, in the Prometheus text format. */
export class OperatorMetrics {
  readonly registry = new Registry();
  readonly #reconciles = new Counter({
    name: "vmrestore_operator_reconciles_total",
    help: "Reconciles by controller and result",
    labelNames: ["controller", "result"],
    registers: [this.registry],
  });
  readonly #seconds = new Histogram({
    name: "vmrestore_operator_reconcile_seconds",
    help: "How long a reconcile took",
    labelNames: ["controller"],
    buckets: [0.01, 0.05, 0.1, 0.5, 1, 5, 30],
    registers: [this.registry],
  });
  readonly #requests = new Counter({
    name: "vmrestore_operator_api_requests_total",
    help: "Requests to the API server by verb, resource and HTTP status, 0 where no answer came",
    labelNames: ["verb", "resource", "code"],
    registers: [this.registry],
  });
  readonly #steps = new Histogram({
    name: "vmrestore_restore_step_seconds",
    help: "How long a step of a restore's timeline took",
    labelNames: ["step"],
    buckets: STEP_SECONDS,
    registers: [this.registry],
  });
  readonly #late = new Counter({
    name: "vmrestore_restore_steps_late_total",
    help: "Steps that took longer than they should",
    labelNames: ["step"],
    registers: [this.registry],
  });
  readonly #ready = new Histogram({
    name: "vmrestore_restore_ready_seconds",
    help: "From a VMRestore's creation until its guest was ready",
    buckets: STEP_SECONDS,
    registers: [this.registry],
  });
  readonly #moves = new Histogram({
    name: "vmrestore_agent_move_pause_seconds",
    help: "How long a guest got no answer while its media agent moved to another node",
    buckets: [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600],
    registers: [this.registry],
  });
  readonly #phases = new Map<string, RestorePhase>();
  readonly #leading = new Gauge({
    name: "vmrestore_operator_leading",
    help: "1 while this replica leads",
    registers: [this.registry],
  });

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    const phases = this.#phases;
    new Gauge({
      name: "vmrestore_restores",
      help: "VMRestores by phase",
      labelNames: ["phase"],
      registers: [this.registry],
      collect() {
        for (const phase of RESTORE_PHASES) {
          this.set({ phase }, [...phases.values()].filter((other) => other === phase).length);
        }
      },
    });
  }

  /** @param milliseconds how long it took */
  reconciled(controller: string, result: "success" | "conflict" | "error", milliseconds: number): void {
    this.#reconciles.inc({ controller, result });
    this.#seconds.observe({ controller }, milliseconds / 1000);
  }

  /** @param status of HTTP, 0: no answer came */
  asked({ verb, resource }: AskedRequest, status: number): void {
    this.#requests.inc({ verb, resource, code: String(status) });
  }

  /** @param phase undefined: the restore is gone */
  restoreIs(uid: string, phase: RestorePhase | undefined): void {
    if (phase === undefined) this.#phases.delete(uid);
    else this.#phases.set(uid, phase);
  }

  /** @param milliseconds from its beginning to its end */
  stepEnded(step: string, milliseconds: number): void {
    this.#steps.observe({ step }, milliseconds / 1000);
  }

  stepLate(step: string): void {
    this.#late.inc({ step });
  }

  /** @param milliseconds since the VMRestore was made */
  guestReady(milliseconds: number): void {
    this.#ready.observe(milliseconds / 1000);
  }

  /** @param milliseconds without an answer */
  agentMoved(milliseconds: number): void {
    this.#moves.observe(milliseconds / 1000);
  }

  leading(isLeading: boolean): void {
    this.#leading.set(isLeading ? 1 : 0);
  }
}
