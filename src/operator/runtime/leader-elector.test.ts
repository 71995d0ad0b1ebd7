import { expect, test } from "@jest/globals";
import { silentLogger } from "../../base/logging.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { ApiError } from "./errors.ts";
import { LeaderElector } from "./leader-elector.ts";
import { LeadershipLostError } from "./leadership.ts";
import { FakeCluster } from "./testing/fake-cluster.ts";

const LEASES = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", plural: "leases", namespaced: true };

/** @param installed whether a Lease without a holder is there, as the chart puts it */
function candidates(installed = true) {
  const clock = new ManualClock();
  const cluster = new FakeCluster(clock);
  if (installed) cluster.put(LEASES, { ...LEASES, metadata: { namespace: "n", name: "lease" } });
  const leading = new Set<string>();
  const start = (identity: string) => {
    const over = new AbortController();
    const elector = new LeaderElector({
      cluster,
      namespace: "n",
      name: "lease",
      identity,
      clock,
      logger: silentLogger,
    });
    const running = elector.run(over.signal, async (signal) => {
      leading.add(identity);
      expect([...leading]).toEqual([identity]);
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      leading.delete(identity);
    });
    return { over, running };
  };
  const seconds = async (count: number) => {
    for (let i = 0; i < count * 2; i++) await clock.advance(500);
  };
  return { clock, cluster, leading, start, seconds };
}

test("one leads, the other takes over at once when the first ends in order", async () => {
  const { leading, start, seconds } = candidates();
  const a = start("a");
  await seconds(1);
  const b = start("b");
  await seconds(60);
  expect([...leading]).toEqual(["a"]);
  a.over.abort();
  await a.running;
  await seconds(4);
  expect([...leading]).toEqual(["b"]);
  b.over.abort();
  await b.running;
});

test("a leader that died is followed when its lease is over, not before", async () => {
  const { cluster, leading, start, seconds } = candidates();
  cluster.put(LEASES, {
    ...{ apiVersion: LEASES.apiVersion, kind: LEASES.kind, metadata: { name: "lease", namespace: "n" } },
    // Its clock went wrong: the time in it counts for nothing.
    spec: { holderIdentity: "dead", leaseDurationSeconds: 15, renewTime: "2001-01-01T00:00:00.000000Z" },
  });
  const b = start("b");
  await seconds(14);
  expect([...leading]).toEqual([]);
  await seconds(6);
  expect([...leading]).toEqual(["b"]);
  b.over.abort();
  await b.running;
});

test("where there is no Lease, one that is made is led by when it has stood for its whole time", async () => {
  const { cluster, leading, start, seconds } = candidates(false);
  const a = start("a");
  await seconds(10);
  // It was deleted, perhaps under somebody who leads: the time begins anew.
  cluster.erase(LEASES, "n", "lease");
  await seconds(28);
  expect([...leading]).toEqual([]);
  await seconds(10);
  expect([...leading]).toEqual(["a"]);
  a.over.abort();
  await a.running;
});

test("a leader that cannot renew stops leading before another may begin", async () => {
  const { cluster, leading, start, seconds } = candidates();
  const a = start("a");
  const lost = expect(a.running).rejects.toBeInstanceOf(LeadershipLostError);
  await seconds(5);
  expect([...leading]).toEqual(["a"]);
  cluster.onWrite = () => {
    throw new ApiError("no connection");
  };
  await seconds(13);
  expect([...leading]).toEqual([]);
  await lost;
});
