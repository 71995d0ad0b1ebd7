import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import type { Cluster } from "./cluster.ts";
import { isConflict } from "./errors.ts";
import { Leadership } from "./leadership.ts";
import type { KubernetesObject, Manifest, ResourceType } from "./objects.ts";

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

/** Another's Lease is taken for no longer than so many of ours, whatever it says of itself. */
const MOST_LEASES = 4;

/**
 * What became of one attempt to make the Lease ours. Young: it bears our name, and somebody may still lead by one that was deleted before
 * it. Unknown: it was refused, or nobody answered in time.
 */
type Attempt = "ours" | "young" | "another's" | "unknown";

/** A Lease as last seen, or that there was none, and when it was first seen so, by our monotonic clock. */
interface Sighting {
  readonly version: string;
  readonly durationMs: number;
  readonly at: number;
}

/**
 * At most one candidate leads, by a Lease, as client-go does it: another's Lease is over when it did not change for its
 * whole duration by *our* clock, so that clocks need not agree. Ours counts from when its renewal was *sent*, however late the
 * answer came, and a request that is not answered does not keep the time from running out.
 *
 * A Lease may be deleted at any time, by anybody, as often as they like. So one that a candidate made proves nothing until it has stood for
 * a whole Lease: for so long nobody else can have renewed another, and every older term has run out (decision 0029). One without a holder
 * is free at once: whoever gave it back, or put it there when the operator was installed, says that nobody leads.
 */
export class LeaderElector {
  readonly #options: LeaderElectorOptions;
  readonly #leaseMs: number;
  readonly #retryMs: number;
  #seen: Sighting | undefined;
  /** A Lease with our name that we do not lead by yet, and when it was seen first, by our monotonic clock. */
  #young: { readonly uid: string; readonly at: number } | undefined;

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? 15_000;
    this.#retryMs = this.#leaseMs / 7;
  }

  /**
   * Waits to lead, then runs `lead` and renews meanwhile. Gives the Lease back at the end. The signal given to `lead` is
   * aborted at the end, and when leadership is lost; in that case this rejects with a {@link LeadershipLostError}.
   */
  async run(signal: AbortSignal, lead: (signal: AbortSignal, term: Leadership) => Promise<void>): Promise<void> {
    const { clock, logger, identity } = this.#options;
    const term = new Leadership(clock, (this.#leaseMs * 2) / 3);
    while ((await this.#attempt(term, this.#leaseMs / 3)) !== "ours") {
      if (signal.aborted) return;
      await clock.sleep(this.#retryMs, signal).catch(() => undefined);
      if (signal.aborted) return;
    }
    logger.info({ identity }, "leading");
    const over = new AbortController();
    const leading = lead(AbortSignal.any([signal, term.lost]), term).finally(() => over.abort());
    const renewing = this.#renew(term, over.signal);
    try {
      await leading;
    } finally {
      await renewing;
      if (!term.lost.aborted) await this.#release();
    }
    if (term.lost.aborted) throw term.lost.reason;
  }

  /** Until the term is over: renews, or says that leadership is lost. */
  async #renew(term: Leadership, over: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    while (!over.aborted) {
      await clock.sleep(Math.min(this.#retryMs, term.timeLeft), over).catch(() => undefined);
      if (over.aborted) return;
      const attempt = await this.#attempt(term, Math.min(this.#leaseMs / 3, term.timeLeft));
      if (attempt === "unknown") logger.warn({ leftMs: term.timeLeft }, "the Lease was not renewed");
      if (attempt === "another's" || term.timeLeft <= 0) {
        logger.error("leadership is lost");
        term.lose();
        return;
      }
    }
  }

  /** Tries once to make the Lease ours; waits for no longer than `limitMs`. */
  async #attempt(term: Leadership, limitMs: number): Promise<Attempt> {
    const { clock, logger } = this.#options;
    const at = { monotonic: clock.monotonic(), wall: clock.now() };
    const leads = term.timeLeft > 0;
    const end = new AbortController();
    const late = clock.sleep(limitMs, end.signal).then(
      () => "unknown" as const,
      () => "unknown" as const,
    );
    const trying = this.#tryAcquire(leads, at.monotonic, end.signal).catch((error: unknown) => {
      if (!isConflict(error)) logger.warn({ error: errorMessage(error) }, "the Lease cannot be written");
      return "unknown" as const;
    });
    const attempt = await Promise.race([trying, late]);
    end.abort();
    if (attempt === "ours") term.renewed(at);
    return attempt;
  }

  /**
   * @param leads whether we lead already
   * @param begun when this attempt began, by our monotonic clock
   * @param late aborted when nobody waits for it any more: then nothing more is written
   */
  async #tryAcquire(leads: boolean, begun: number, late: AbortSignal): Promise<Attempt> {
    const { cluster, namespace, name, identity, clock } = this.#options;
    const lease = await cluster.get(LEASES, namespace, name);
    if (late.aborted) return "unknown";
    // A leader whose Lease was deleted makes it anew: nobody else can lead by now, because no other has stood for long enough.
    if (!(lease === undefined && leads) && this.#isAnothers(lease)) return "another's";
    const now = new Date(clock.now()).toISOString().replace("Z", "000Z");
    const isOurs = lease?.spec?.holderIdentity === identity;
    const isYoung = !leads && (lease === undefined || (isOurs && this.#isYoung(lease, begun)));
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(this.#leaseMs / 1000),
      acquireTime: isOurs ? (lease?.spec?.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions:
        (lease?.spec?.leaseTransitions ?? 0) + (isOurs || lease?.spec?.acquireTime === undefined ? 0 : 1),
    };
    if (lease === undefined) await cluster.create(LEASES, this.#object({ name, namespace }, spec));
    else await cluster.replace(LEASES, this.#object(lease.metadata, spec));
    return isYoung ? "young" : "ours";
  }

  /** Whether a Lease that bears our name has not stood for a whole Lease, as far as we know. Where an answer was lost it may be older. */
  #isYoung({ metadata: { uid = "" } }: Lease, begun: number): boolean {
    if (this.#young?.uid !== uid) this.#young = { uid, at: this.#options.clock.monotonic() };
    return begun - this.#young.at < this.#leaseMs;
  }

  /**
   * Whether another may still lead by it. A Lease that vanished is waited for as if its holder were there: that one makes it anew, and goes
   * on. Only who never saw one makes it at once.
   */
  #isAnothers(lease: Lease | undefined): boolean {
    const now = this.#options.clock.monotonic();
    const before = this.#seen;
    if (lease === undefined && before === undefined) return false;
    const { holderIdentity: holder = "", leaseDurationSeconds = 0 } = lease?.spec ?? {};
    const version = lease === undefined ? "none" : `${lease.metadata.uid}/${lease.metadata.resourceVersion}`;
    // Whatever is written there, the others' Leases last about as long as ours.
    const durationMs = Math.min(Math.max(leaseDurationSeconds * 1000, this.#leaseMs), MOST_LEASES * this.#leaseMs);
    const seen = before?.version === version ? before : { version, durationMs, at: now };
    this.#seen = seen;
    if (lease !== undefined && (holder === "" || holder === this.#options.identity)) return false;
    return now - seen.at <= seen.durationMs;
  }

  /** Lets the others take over at once. They wait until the Lease runs out where that cannot be written. */
  async #release(): Promise<void> {
    const { clock } = this.#options;
    const end = new AbortController();
    const late = clock.sleep(this.#leaseMs / 3, end.signal);
    await Promise.race([this.#giveBack(), late]).catch(() => undefined);
    end.abort();
    late.catch(() => undefined);
  }

  async #giveBack(): Promise<void> {
    const { cluster, namespace, name, identity } = this.#options;
    const lease = await cluster.get(LEASES, namespace, name);
    if (lease?.spec?.holderIdentity !== identity) return;
    await cluster.replace(LEASES, this.#object(lease.metadata, { ...lease.spec, holderIdentity: "" }));
  }

  #object(metadata: KubernetesObject["metadata"], spec: object): Manifest {
    return { apiVersion: LEASES.apiVersion, kind: LEASES.kind, metadata, spec };
  }
}
