import { afterEach, expect, test } from "@jest/globals";
import fc from "fast-check";
import { silentLogger } from "../../base/logging.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { ApiError } from "./errors.ts";
import type { ResourceType } from "./objects.ts";
import { Reflector } from "./reflector.ts";
import { WatchedServer } from "./testing/watched-server.ts";

const PODS: ResourceType = { apiVersion: "v1", kind: "Pod", plural: "pods", namespaced: true };
const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

/** @param names of objects that are there before the reflector is */
function workplace(...names: string[]) {
  const clock = new ManualClock();
  const advance = clock.advance.bind(clock);
  clock.advance = async (ms) => {
    for (let i = 0; i < 12; i++) await advance(0);
    await advance(ms);
    for (let i = 0; i < 12; i++) await advance(0);
  };
  const server = new WatchedServer();
  for (const name of names) server.put(name);
  /** What a listener knows: by uid, the version told last. */
  const known = new Map<string, number>();
  const told: string[] = [];
  const gone = new Set<string>();
  const over = new AbortController();
  const reflector = new Reflector({
    transport: server,
    type: PODS,
    onChange: ({ metadata: { name, uid = "", resourceVersion } }, is) => {
      told.push(`${name} ${is}`);
      if (is === "gone") {
        known.delete(uid);
        gone.add(uid);
        return;
      }
      // What is gone does not come back: the uid is another then.
      expect(gone.has(uid)).toBe(false);
      known.set(uid, Number(resourceVersion));
    },
    clock,
    logger: silentLogger,
    random: () => 0,
  });
  const running = reflector.run(over.signal);
  const end = async () => {
    over.abort();
    await clock.advance(1);
    await running;
  };
  ends.push(end);
  const truth = () =>
    new Map([...server.objects.values()].map(({ metadata }) => [metadata.uid, Number(metadata.resourceVersion)]));
  const lists = () => server.asked.filter((path) => !path.includes("watch="));
  return { clock, server, known, told, reflector, truth, lists, end };
}

test("a list comes in pages, and is asked for anew in one piece where its moment was forgotten between two", async () => {
  const { clock, server, known, truth, lists } = workplace("a", "b", "c", "d", "e");
  server.before = (path) => {
    if (path.includes("continue=")) server.compact();
  };
  await clock.advance(10);
  expect(known).toEqual(truth());
  expect(lists().map((path) => path.replace(/.*\?|[^?]*pods$/, ""))).toEqual([
    "limit=500",
    expect.stringContaining("continue="),
    "",
  ]);
});

test("a watch that falls silent is noticed, and what was missed is told", async () => {
  const { clock, server, known, truth, told } = workplace();
  server.put("a");
  server.put("b");
  await clock.advance(10);
  server.cut("silent");
  await clock.advance(10);
  server.put("c");
  server.remove("a");
  await clock.advance(100_000);
  expect(told).toEqual(["a present", "b present"]);
  await clock.advance(60_000);
  expect(known).toEqual(truth());
  expect(told).toContain("a gone");
});

test("a watch that is kept alive by bookmarks is not taken for silent", async () => {
  const { clock, server, lists } = workplace();
  server.put("a");
  await clock.advance(10);
  for (let i = 0; i < 30; i++) {
    server.pass();
    await clock.advance(60_000);
  }
  expect(lists()).toHaveLength(1);
  expect(server.watches).toBe(1);
});

test.each(["http", "event"])(
  "a server that forgets every place at once is asked less and less often (%s)",
  async (how) => {
    const { clock, server, lists } = workplace();
    server.put("a");
    server.before = (path) => {
      if (!path.includes("watch=")) return;
      if (how === "http") throw new ApiError("too old", { status: 410, reason: "Expired" });
      setImmediate(() => server.cut("gone"));
    };
    for (let i = 0; i < 120; i++) await clock.advance(1000);
    expect(lists().length).toBeGreaterThan(4);
    expect(lists().length).toBeLessThan(14);
  },
);

test("a server that ends every watch at once is asked less and less often", async () => {
  const { clock, server, lists } = workplace();
  server.put("a");
  server.before = (path) => {
    if (path.includes("watch=")) setImmediate(() => server.cut("end"));
  };
  for (let i = 0; i < 120; i++) await clock.advance(1000);
  expect(server.asked.length).toBeLessThan(14);
  expect(lists()).toHaveLength(1);
});

test("a server that was put back from a backup is listed anew, though its watch says nothing of it", async () => {
  const { clock, server, known, truth, told } = workplace();
  server.put("a");
  await clock.advance(10);
  server.put("b");
  server.put("c");
  await clock.advance(10);
  server.restore(2);
  server.pass();
  await clock.advance(1000);
  expect(known).toEqual(truth());
  expect(told).toEqual(expect.arrayContaining(["b gone", "c gone"]));
  // Just as far as before, with another object at that place.
  server.put("d");
  await clock.advance(10);
  server.restore(1);
  server.put("e");
  await clock.advance(1000);
  expect(known).toEqual(truth());
});

test("a place that lies ahead of the server is given up", async () => {
  const { clock, server, lists } = workplace();
  server.put("a");
  let watches = 0;
  server.before = (path) => {
    if (path.includes("watch=") && ++watches === 1)
      throw new ApiError("Timeout: Too large resource version: 99, current: 12", { status: 504 });
  };
  await clock.advance(1000);
  expect(lists()).toHaveLength(2);
  expect(server.watches).toBe(1);
});

test("an event that makes no sense ends in a new list, not in the same event again and again", async () => {
  const { clock, server, lists, known, truth } = workplace();
  server.put("a");
  await clock.advance(10);
  const { watch } = server;
  let spoiled = false;
  server.watch = async function* (path, signal) {
    if (!spoiled) {
      spoiled = true;
      yield { type: "MODIFIED", object: null };
    }
    yield* watch.call(server, path, signal);
  };
  server.cut("reset");
  await clock.advance(2000);
  expect(lists()).toHaveLength(2);
  server.put("b");
  await clock.advance(1000);
  expect(known).toEqual(truth());
});

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("put" as const), name: fc.constantFrom("a", "b", "c", "d", "e") }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("remove" as const), name: fc.constantFrom("a", "b", "c", "d") }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("cut" as const),
      how: fc.constantFrom("reset" as const, "end" as const, "silent" as const, "gone" as const, "failed" as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("compact" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pass" as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("refuse" as const), status: fc.constantFrom(410, 429, 500, 404, 0) }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(40_000) }) },
);

test("whatever becomes of the connection and the server's memory, what is told comes to what is so", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.boolean(), async (steps, late) => {
      const { clock, server, known, truth, end } = workplace();
      let refusal: number | undefined;
      server.before = () => {
        const status = refusal;
        refusal = undefined;
        if (status !== undefined) throw new ApiError("refused", status === 0 ? {} : { status });
      };
      if (late) await clock.advance(1);
      for (const one of steps) {
        if (one.do === "put") server.put(one.name);
        else if (one.do === "remove") server.remove(one.name);
        else if (one.do === "cut") server.cut(one.how);
        else if (one.do === "compact") server.compact();
        else if (one.do === "pass") server.pass();
        else if (one.do === "refuse") refusal = one.status;
        else await clock.advance(one.ms);
      }
      // Things go on in a cluster; a minute of silence at most, and the retries that are still to come.
      for (let i = 0; i < 10; i++) {
        await clock.advance(30_000);
        server.pass();
      }
      await clock.advance(1000);
      expect(known).toEqual(truth());
      await end();
    }),
    { numRuns: 150 },
  );
}, 180_000);
