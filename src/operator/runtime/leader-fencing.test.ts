import { expect, test } from "@jest/globals";
import fc from "fast-check";
import type { Clock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logging.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { ApiError } from "./errors.ts";
import { FencedCluster } from "./fenced-cluster.ts";
import { LeaderElector } from "./leader-elector.ts";
import { Leadership, LeadershipLostError } from "./leadership.ts";
import type { KubernetesObject, ResourceType } from "./objects.ts";
import { type Around, AroundCluster } from "./testing/around-cluster.ts";
import { FakeCluster } from "./testing/fake-cluster.ts";

const LEASES: ResourceType<KubernetesObject & { kind: "Lease"; spec?: Record<string, unknown> }> = {
  apiVersion: "coordination.k8s.io/v1",
  kind: "Lease",
  plural: "leases",
  namespaced: true,
};
const MAPS: ResourceType = { apiVersion: "v1", kind: "ConfigMap", plural: "configmaps", namespaced: true };
const LEASE_MS = 15_000;

/** How a replica reaches the API server. */
type Network =
  | { readonly is: "good" }
  | { readonly is: "cut" }
  | { readonly is: "slow"; readonly there: number; readonly back: number }
  | { readonly is: "refused" }
  | { readonly is: "deaf" };

class Replica {
  network: Network = { is: "good" };
  term: Leadership | undefined;
  error: unknown;
  readonly over = new AbortController();
  readonly running: Promise<void>;
  readonly cluster: FencedCluster;

  constructor(cluster: FakeCluster, clock: Clock, identity: string) {
    const around: Around = async (call, carryOut) => {
      const network = this.network;
      if (network.is === "cut") return new Promise(() => undefined);
      if (network.is === "refused") throw new ApiError("no connection");
      if (network.is === "slow") await clock.sleep(network.there);
      const answer = await carryOut();
      if (network.is === "slow") await clock.sleep(network.back);
      if (network.is === "deaf" && call.verb !== "get") throw new ApiError("the answer was lost");
      return answer;
    };
    const reached = new AroundCluster(cluster, around);
    const options = { namespace: "n", name: "lease", identity, clock, logger: silentLogger, leaseMs: LEASE_MS };
    const elector = new LeaderElector({ cluster: reached, ...options });
    this.cluster = new FencedCluster(reached, () => this.term?.check());
    this.running = elector
      .run(this.over.signal, async (signal, term) => {
        this.term = term;
        await new Promise<void>((resolve) => {
          if (signal.aborted) resolve();
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
        if (!term.lost.aborted) this.term = undefined;
      })
      .catch((error: unknown) => {
        this.error = error;
      });
  }

  /** Whether it would do something now. */
  get acts(): boolean {
    return (this.term?.timeLeft ?? 0) > 0;
  }
}

/** @param installed whether a Lease without a holder is there, as the chart puts it */
function workplace(installed = true) {
  const clock = new ManualClock();
  const cluster = new FakeCluster(clock);
  if (installed) cluster.put(LEASES, { ...LEASES, metadata: { namespace: "n", name: "lease" } });
  const start = (identity: string, own: Clock = clock) => new Replica(cluster, own, identity);
  const seconds = async (count: number) => {
    for (let i = 0; i < count * 4; i++) await clock.advance(250);
  };
  return { clock, cluster, start, seconds };
}

test("a renewal that is never answered does not keep a leader leading", async () => {
  const { start, seconds } = workplace();
  const a = start("a");
  await seconds(3);
  const b = start("b");
  await seconds(3);
  expect([a.acts, b.acts]).toEqual([true, false]);
  a.network = { is: "cut" };
  await seconds(11);
  expect([a.acts, b.acts]).toEqual([false, false]);
  await seconds(9);
  expect([a.acts, b.acts]).toEqual([false, true]);
  expect(a.error).toBeInstanceOf(LeadershipLostError);
  b.over.abort();
  await b.running;
});

test("a leader's time counts from when its renewal was sent, not from when the answer came", async () => {
  const { start, seconds, clock } = workplace();
  const a = start("a");
  await seconds(3);
  a.network = { is: "slow", there: 0, back: 1900 };
  for (let i = 0; i < 40; i++) {
    await clock.advance(250);
    expect(a.term?.timeLeft).toBeLessThan(10_000);
  }
  expect(a.acts).toBe(true);
  a.network = { is: "good" };
  a.over.abort();
  await seconds(6);
  await a.running;
});

test("a leader that reads another's name in its Lease stops at once", async () => {
  const { start, seconds, cluster } = workplace();
  const a = start("a");
  await seconds(3);
  cluster.change(LEASES, "n", "lease", (lease) => {
    lease.spec = { ...lease.spec, holderIdentity: "somebody" };
  });
  await seconds(3);
  expect(a.acts).toBe(false);
  await a.running;
  expect(a.error).toBeInstanceOf(LeadershipLostError);
});

test("a Lease that somebody deletes is made anew by its leader, and taken by nobody else", async () => {
  const { start, seconds, cluster } = workplace();
  const a = start("a");
  await seconds(1);
  const b = start("b");
  await seconds(3);
  for (let i = 0; i < 5; i++) {
    cluster.erase(LEASES, "n", "lease");
    await seconds(3);
    expect([a.acts, b.acts]).toEqual([true, false]);
    expect(cluster.peek(LEASES, "n", "lease")?.spec?.holderIdentity).toBe("a");
  }
  a.over.abort();
  b.over.abort();
  await Promise.all([a.running, b.running]);
});

test("a leader that was frozen does nothing when it wakes, though only the wall clock tells", async () => {
  const { clock, cluster } = workplace();
  let frozen = 0;
  const own: Clock = {
    now: () => clock.now(),
    monotonic: () => clock.monotonic() - frozen,
    sleep: (ms, signal) => clock.sleep(ms, signal),
  };
  const term = new Leadership(own, 10_000);
  term.renewed({ monotonic: own.monotonic(), wall: own.now() });
  const fenced = new FencedCluster(cluster, () => term.check());
  const object = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "x", namespace: "n" } };
  await fenced.create(MAPS, object);
  await clock.advance(60_000);
  frozen = 60_000;
  const writes = [
    () => fenced.create(MAPS, object),
    () => fenced.apply(MAPS, object),
    () => fenced.applyStatus(MAPS, object),
    () => fenced.replace(MAPS, object),
    () => fenced.delete(MAPS, object),
  ];
  for (const write of writes) await expect(write()).rejects.toBeInstanceOf(LeadershipLostError);
  expect(cluster.writes).toHaveLength(1);
  // What is lost stays lost.
  term.renewed({ monotonic: own.monotonic(), wall: own.now() });
  await expect(fenced.create(MAPS, object)).rejects.toBeInstanceOf(LeadershipLostError);
  expect(await fenced.get(MAPS, "n", "x")).toBeDefined();
  expect(await fenced.list(MAPS, "n")).toHaveLength(1);
});

const network: fc.Arbitrary<Network> = fc.oneof(
  fc.constant<Network>({ is: "good" }),
  fc.constant<Network>({ is: "cut" }),
  fc.constant<Network>({ is: "refused" }),
  fc.constant<Network>({ is: "deaf" }),
  fc.record({ is: fc.constant("slow" as const), there: fc.nat(9000), back: fc.nat(9000) }),
);
const event = fc.record({
  wait: fc.nat(80),
  what: fc.oneof(
    fc.record({ do: fc.constant("network" as const), of: fc.nat(2), network }),
    fc.record({ do: fc.constant("kill" as const), of: fc.nat(2) }),
    fc.record({ do: fc.constant("end" as const), of: fc.nat(2) }),
    fc.record({ do: fc.constant("delete" as const) }),
    fc.record({ do: fc.constant("spoil" as const), seconds: fc.constantFrom(0, -1, 1, 1e9) }),
  ),
});

test("whatever becomes of connections, processes and the Lease, no two replicas may act at one moment, and one leads in the end", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(event, { maxLength: 12 }),
      fc.array(fc.integer(), { minLength: 3, maxLength: 3 }),
      fc.boolean(),
      async (events, skews, installed) => {
        const { clock, cluster } = workplace(installed);
        let born = 0;
        // Clocks disagree by anything, and run 1 % faster or slower than each other.
        const clockOf = (index: number): Clock => {
          const rate = [1, 1.01, 0.99][index] ?? 1;
          return {
            now: () => clock.now() + (skews[index] ?? 0),
            monotonic: () => clock.monotonic() * rate,
            sleep: (ms, signal) => clock.sleep(ms / rate, signal),
          };
        };
        const start = (index: number) => new Replica(cluster, clockOf(index), `replica-${index}-${born++}`);
        const replicas = [0, 1, 2].map(start);
        const quarter = async () => {
          await clock.advance(250);
          const acting = replicas.filter((replica) => replica.acts);
          expect(acting.length).toBeLessThanOrEqual(1);
          replicas.forEach((replica, index) => {
            // The process ended and is started again.
            if (replica.error !== undefined) replicas[index] = start(index);
          });
        };
        for (const { wait, what } of events) {
          for (let i = 0; i < wait; i++) await quarter();
          const replica = "of" in what ? replicas[what.of] : undefined;
          if (what.do === "network" && replica !== undefined) replica.network = what.network;
          else if (what.do === "kill" && replica !== undefined) {
            replica.network = { is: "cut" };
            replica.over.abort();
            replicas[what.of] = start(what.of);
          } else if (what.do === "end" && replica !== undefined) {
            // In order: what it still does to the Lease is giving it back.
            replica.over.abort();
            replicas[what.of] = start(what.of);
          } else if (what.do === "delete") cluster.erase(LEASES, "n", "lease");
          else if (what.do === "spoil")
            cluster.change(LEASES, "n", "lease", (lease) => {
              lease.spec = { ...lease.spec, leaseDurationSeconds: what.seconds, renewTime: "never" };
            });
        }
        for (const replica of replicas) replica.network = { is: "good" };
        for (let i = 0; i < 4 * 100; i++) await quarter();
        expect(replicas.filter((replica) => replica.acts)).toHaveLength(1);
        for (const replica of replicas) replica.over.abort();
        for (let i = 0; i < 40; i++) await clock.advance(250);
      },
    ),
    { numRuns: 60 },
  );
}, 180_000);
