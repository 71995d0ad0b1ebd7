import type { Clock } from "../../base/clock.ts";
import { errorMessage, VmRestoreError } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import type { Cluster } from "./cluster.ts";
import { isConflict } from "./errors.ts";
import type { KubernetesObject, Manifest, ResourceType } from "./objects.ts";

/** The Lease could not be renewed in time: another may lead now. The process has to end. */
export class LeadershipLostError extends VmRestoreError {
  constructor() {
    super("LEADERSHIP_LOST", "the Lease could not be renewed in time", {
      hint: "see whether the API server answers; the operator starts again by itself",
    });
  }
}

interface Lease extends KubernetesObject {
  kind: "Lease";
  spec?: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

const LEASES: ResourceType<Lease> = {
  apiVersion: "coordination.k8s.io/v1",
  kind: "Lease",
  plural: "leases",
  namespaced: true,
};

export interface LeaderElectorOptions {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly name: string;
  /** Unique among the candidates. */
  readonly identity: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Others may take over when the Lease was not renewed for so long; ours is given up a third earlier. */
  readonly leaseMs?: number;
}

/**
 * At most one candidate leads, by a Lease, as client-go does it: another's Lease is over when it did not change for its
 * whole duration by *our* clock, so that clocks need not agree.
 */
export class LeaderElector {
  readonly #options: LeaderElectorOptions;
  readonly #leaseMs: number;
  /** The Lease as last seen, and when it was first seen so. */
  #seen: { version: string; at: number } | undefined;

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? 15_000;
  }

  /**
   * Waits to lead, then runs `lead` and renews meanwhile. Gives the Lease back at the end. The signal given to `lead` is
   * aborted when leadership is lost; then this rejects with a {@link LeadershipLostError}.
   */
  async run(signal: AbortSignal, lead: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { clock, logger, identity } = this.#options;
    while (!(await this.#tryAcquire())) {
      await clock.sleep(this.#leaseMs / 7, signal).catch(() => undefined);
      if (signal.aborted) return;
    }
    logger.info({ identity }, "leading");
    const lost = new AbortController();
    const over = new AbortController();
    const leading = lead(AbortSignal.any([signal, lost.signal])).finally(() => over.abort());
    const renewing = this.#renew(over.signal).catch(() => lost.abort(new LeadershipLostError()));
    try {
      await leading;
    } finally {
      await renewing;
      if (!lost.signal.aborted) await this.#release();
    }
    if (lost.signal.aborted) throw lost.signal.reason;
  }

  async #renew(over: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    let renewed = clock.monotonic();
    while (!over.aborted) {
      await clock.sleep(this.#leaseMs / 7, over).catch(() => undefined);
      if (over.aborted) return;
      const before = clock.monotonic();
      if (await this.#tryAcquire()) renewed = before;
      else logger.warn("the Lease was not renewed");
      if (clock.monotonic() - renewed > (this.#leaseMs * 2) / 3) throw new LeadershipLostError();
    }
  }

  /** Whether the Lease is ours now. */
  async #tryAcquire(): Promise<boolean> {
    const { cluster, namespace, name, identity, clock, logger } = this.#options;
    try {
      const lease = await cluster.get(LEASES, namespace, name);
      const now = new Date(clock.now()).toISOString().replace("Z", "000Z");
      const held = lease?.spec?.holderIdentity;
      if (lease !== undefined && held !== undefined && held !== "" && held !== identity && !this.#isOver(lease))
        return false;
      const isOurs = held === identity;
      const spec = {
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(this.#leaseMs / 1000),
        acquireTime: isOurs ? (lease?.spec?.acquireTime ?? now) : now,
        renewTime: now,
        leaseTransitions: (lease?.spec?.leaseTransitions ?? 0) + (isOurs || lease === undefined ? 0 : 1),
      };
      if (lease === undefined) await cluster.create(LEASES, this.#object({ name, namespace }, spec));
      else await cluster.replace(LEASES, this.#object(lease.metadata, spec));
      return true;
    } catch (error) {
      if (!isConflict(error)) logger.warn({ error: errorMessage(error) }, "the Lease cannot be written");
      return false;
    }
  }

  #isOver(lease: Lease): boolean {
    const version = lease.metadata.resourceVersion ?? "";
    const now = this.#options.clock.monotonic();
    if (this.#seen?.version !== version) this.#seen = { version, at: now };
    return now - this.#seen.at > (lease.spec?.leaseDurationSeconds ?? 15) * 1000;
  }

  async #release(): Promise<void> {
    const { cluster, namespace, name, identity } = this.#options;
    try {
      const lease = await cluster.get(LEASES, namespace, name);
      if (lease?.spec?.holderIdentity !== identity) return;
      await cluster.replace(LEASES, this.#object(lease.metadata, { ...lease.spec, holderIdentity: "" }));
    } catch {
      // Then the others wait until it runs out.
    }
  }

  #object(metadata: KubernetesObject["metadata"], spec: object): Manifest {
    return { apiVersion: LEASES.apiVersion, kind: LEASES.kind, metadata, spec };
  }
}
