import { expect, test } from "@jest/globals";
import type { Clock } from "../../base/clock.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { ClusterClock } from "./cluster-clock.ts";

const HOUR = 3_600_000;

/** This node's clock, which somebody sets, beside the API server's. */
function clocks(aheadMs: number) {
  const server = new ManualClock();
  let ahead = aheadMs;
  const own: Clock = {
    now: () => server.now() + ahead,
    monotonic: () => server.monotonic(),
    sleep: (ms, signal) => server.sleep(ms, signal),
  };
  const told: number[] = [];
  const clock = new ClusterClock(own, (ms) => told.push(ms));
  const answer = () => clock.heard(new Date(server.now()).toUTCString());
  const set = (ms: number): void => {
    ahead = ms;
  };
  return { server, clock, answer, set, told };
}

test.each([HOUR, -HOUR])("a node's clock that is wrong by %i ms is set right by the first answer", (ms) => {
  const { server, clock, answer, told } = clocks(ms);
  expect(clock.now() - server.now()).toBe(ms);
  answer();
  expect(clock.now()).toBe(server.now());
  expect(told).toEqual([ms]);
});

test.each([HOUR, -HOUR])(
  "a node's clock that is set by %i ms meanwhile changes nothing, before any answer",
  async (ms) => {
    const { server, clock, answer, set, told } = clocks(0);
    answer();
    set(ms);
    await server.advance(1000);
    expect(clock.now()).toBe(server.now());
    answer();
    expect(clock.now()).toBe(server.now());
    expect(told).toEqual([]);
  },
);

test("clocks that agree but for what an answer takes are not set again and again", async () => {
  const { server, clock, answer, told } = clocks(1500);
  for (let second = 0; second < 10; second++) {
    answer();
    await server.advance(700);
  }
  expect(clock.now() - server.now()).toBe(1500);
  expect(told).toEqual([]);
});

test("an API server whose own clock is set is followed: what it makes is told by that", async () => {
  const { server, clock, told } = clocks(0);
  clock.heard(new Date(server.now() + HOUR).toUTCString());
  await server.advance(1000);
  expect(clock.now()).toBe(server.now() + HOUR);
  expect(told).toEqual([-HOUR]);
});

test("an answer that tells no time, or nonsense, is none", () => {
  const { server, clock } = clocks(0);
  for (const date of [undefined, "", "tomorrow"]) clock.heard(date);
  expect(clock.now()).toBe(server.now());
});
