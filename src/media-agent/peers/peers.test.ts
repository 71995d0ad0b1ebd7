import { createHash } from "node:crypto";
import { beforeEach, expect, test } from "@jest/globals";
import type { Peer } from "../../api/peers.ts";
import { type Deferred, deferred } from "../../base/deferred.ts";
import { silentLogger } from "../../base/logging.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import type { ReadReason } from "../read-queue.ts";
import type { Ask } from "../read-scheduler.ts";
import type { BlobRequest } from "./peer-client.ts";
import { PeerError, type PeerErrorCode } from "./peer-error.ts";
import { Peers } from "./peers.ts";
import { responsible } from "./rendezvous.ts";

const SELF = "self";
const ALL = [SELF, "b", "c", "d"];
const settled = (): Promise<void> => new Promise(setImmediate);

interface Question extends BlobRequest {
  readonly peer: string;
  readonly answer: Deferred<Buffer>;
}

let clock: ManualClock;
let asked: Question[];
let taken: number;
let notTaken: string[];
let closed: string[];
let peers: Peers;

beforeEach(() => {
  clock = new ManualClock();
  [asked, taken, notTaken, closed] = [[], 0, [], []];
  peers = new Peers({
    ...{ self: SELF, clock, log: silentLogger },
    observer: { taken: () => void taken++, notTaken: (code) => void notTaken.push(code) },
    connect: ({ id }) => ({
      fetch: (blob, signal) => {
        const answer = deferred<Buffer>();
        signal.addEventListener("abort", () => answer.reject(signal.reason));
        asked.push({ ...blob, peer: id, answer });
        return answer.promise;
      },
      close: () => void closed.push(id),
    }),
  });
  tell(ALL);
});

function tell(ids: readonly string[]): void {
  const told = ids.map((id): Peer => ({ id, host: "127.0.0.1", port: 1, ca: "ca", token: "token" }));
  peers.tell({ digest: ids.join(), peers: told });
}

/** A pack for which these are responsible first. */
function packOf(...first: readonly string[]): string {
  for (let number = 0; ; number++) {
    const pack = createHash("sha256").update(String(number)).digest("hex");
    if (responsible(ALL, pack).slice(0, first.length).join() === first.join()) return pack;
  }
}

function ask(pack: string, reason: ReadReason = "boot", length = 1000): Ask | undefined {
  return peers.ask("a".repeat(64), { pack, length }, reason);
}

async function refuse(code: PeerErrorCode): Promise<void> {
  asked.at(-1)?.answer.reject(new PeerError(code, code));
  await settled();
}

async function failure(question: Ask | undefined): Promise<unknown> {
  return question?.content.then(
    () => "answered",
    (error: unknown) => (error as { code?: unknown }).code ?? (error as Error).message,
  );
}

test("who is responsible is asked to fetch; for a guest, only for what need not be", async () => {
  const staged = ask(packOf("b"));
  const guests = ask(packOf("c"), "guest");
  expect(asked.map(({ peer, mode }) => [peer, mode])).toEqual([
    ["b", "Fetch"],
    ["c", "Now"],
  ]);
  expect([staged?.isFetched, guests?.isFetched]).toEqual([true, false]);
  asked[0]?.answer.resolve(Buffer.from("content"));
  expect(String(await staged?.content)).toBe("content");
  expect(taken).toBe(1);
});

test("of its own part, it looks whether the next has it, and then fetches it itself", async () => {
  const question = ask(packOf(SELF, "c", "d", "b"));
  expect(asked[0]).toMatchObject({ peer: "c", mode: "Cached" });
  await refuse("PEER_NOT_NOW");
  expect(asked[1]).toMatchObject({ peer: "d", mode: "Cached" });
  await refuse("PEER_NOT_NOW");
  await refuse("PEER_NOT_NOW");
  expect(asked).toHaveLength(3);
  expect(await failure(question)).toBe("PEER_NOT_NOW");
});

test("nobody is asked without others, nor for what is of no disk", () => {
  expect(peers.ask("a".repeat(64), undefined, "boot")).toBeUndefined();
  tell([]);
  expect(ask(packOf("b"))).toBeUndefined();
  expect(closed.sort()).toEqual(["b", "c", "d"]);
});

test.each<[PeerErrorCode, number]>([
  ["PEER_REFUSED", 1000],
  ["PEER_SILENT", 5000],
  ["PEER_WRONG", 60_000],
])("after %s the agent is left alone for %i ms, and the next does its part", async (code, pauseMs) => {
  const pack = packOf("b", "c");
  const question = ask(pack, "relocation");
  await refuse(code);
  question?.end();
  expect(notTaken[0]).toBe(code);
  ask(pack);
  expect(asked.at(-1)).toMatchObject({ peer: "c", mode: "Fetch" });
  await clock.advance(pauseMs - 1);
  ask(pack);
  expect(asked.at(-1)?.peer).toBe("c");
  await clock.advance(1);
  ask(pack);
  expect(asked.at(-1)?.peer).toBe("b");
});

test("one that needs nothing of a pack is passed over for that pack only", async () => {
  const pack = packOf("b", "c");
  const question = ask(pack);
  await refuse("PEER_LACKS");
  expect(asked.at(-1)?.peer).toBe("c");
  asked.at(-1)?.answer.resolve(Buffer.from("of c"));
  expect(String(await question?.content)).toBe("of c");
  ask(pack);
  expect(asked.at(-1)?.peer).toBe("c");
  ask(packOf("b", "d"));
  expect(asked.at(-1)?.peer).toBe("b");
  tell([...ALL, "e"]);
  tell(ALL);
  ask(pack);
  expect(asked.at(-1)?.peer).toBe("b");
});

test("wrong content and silence are not passed on: the repository comes next", async () => {
  for (const code of ["PEER_WRONG", "PEER_SILENT"] as const) {
    const question = ask(packOf(code === "PEER_WRONG" ? "b" : "c"));
    await refuse(code);
    expect(await failure(question)).toBe(code);
  }
  expect(asked).toHaveLength(2);
});

test("nobody is waited for longer than a bounded moment, which goes by how long the repository takes", async () => {
  const first = ask(packOf("b"));
  await clock.advance(4999);
  expect(notTaken).toEqual([]);
  await clock.advance(1);
  expect(await failure(first)).toBe("PEER_SILENT");
  first?.end();
  for (const [tookMs, limitMs] of [
    [1, 4000],
    [1_000_000, 10_000],
  ] as const) {
    peers.fetched(tookMs);
    const question = ask(packOf("c"));
    await clock.advance(limitMs - 1);
    question?.content.catch(() => undefined);
    expect(notTaken.at(-1)).toBe("PEER_SILENT");
    const before = notTaken.length;
    await clock.advance(1);
    expect(notTaken).toHaveLength(before + 1);
    question?.end();
    await clock.advance(60_000);
  }
});

test("an agent that stays silent is left alone for longer each time, until it answers", async () => {
  const pack = packOf("b", "c");
  const silence = async (): Promise<void> => {
    const questions = [ask(pack), ask(pack)];
    for (const { answer } of asked.slice(-2)) answer.reject(new PeerError("PEER_SILENT", ""));
    await settled();
    for (const question of questions) question?.end();
  };
  await silence();
  await clock.advance(5000);
  await silence();
  await clock.advance(5000);
  ask(pack);
  expect(asked.at(-1)?.peer).toBe("c");
  await clock.advance(5000);
  const question = ask(pack);
  expect(asked.at(-1)?.peer).toBe("b");
  asked.at(-1)?.answer.resolve(Buffer.from("x"));
  await question?.content;
  await silence();
  await clock.advance(5000);
  ask(pack);
  expect(asked.at(-1)?.peer).toBe("b");
});

test("a guest that waited in vain asks that agent no more for ten times as long; others still do", async () => {
  const pack = packOf("b", "c");
  const question = ask(pack, "guest");
  expect(question?.patienceMs).toBe(100);
  await clock.advance(50);
  question?.end();
  expect(await failure(question)).toBe("not wanted any more");
  expect(notTaken).toEqual([]);
  expect(ask(pack, "guest")).toBeUndefined();
  ask(pack);
  expect(asked.at(-1)?.peer).toBe("b");
  await clock.advance(1000);
  expect(ask(pack, "guest")).toBeDefined();
});

test("of one agent no more than so much is asked at once, and of all together no more than so many bytes", async () => {
  const many = Array.from({ length: 20 }, () => ask(packOf("b")));
  expect(many.filter((question) => question !== undefined)).toHaveLength(16);
  for (const { answer } of asked) answer.resolve(Buffer.from("x"));
  await settled();
  // Its bytes count until they are stored.
  expect(ask(packOf("b"), "boot", 32 * 2 ** 20)).toBeUndefined();
  for (const question of many) question?.end();
  expect(ask(packOf("b"), "boot", 32 * 2 ** 20)).toBeDefined();
});

test("who stays in the group is asked on over the same connections, who leaves it or is another is not", async () => {
  tell(ALL);
  expect(closed).toEqual([]);
  const question = ask(packOf("b"));
  tell([SELF, "b", "e"]);
  expect(closed).toEqual(["c", "d"]);
  asked[0]?.answer.resolve(Buffer.from("of b"));
  expect(String(await question?.content)).toBe("of b");
  peers.tell({ digest: "x", peers: [{ id: "b", host: "127.0.0.1", port: 1, ca: "another", token: "token" }] });
  expect(closed).toEqual(["c", "d", "b", "e"]);
  tell(ALL);
  expect(peers.digest).toBe(ALL.join());
});
