import { beforeEach, expect, test } from "@jest/globals";
import { AdaptivePoll } from "./adaptive-poll.ts";

let now = 0;
let turns: (() => void)[] = [];
let poll: AdaptivePoll;

beforeEach(() => {
  now = 0;
  turns = [];
  poll = new AdaptivePoll({ now: () => now, next: (turn) => turns.push(turn) });
});

/** Lets the event loop turn for so long, a turn each ten microseconds. @returns how often it turned */
function turnFor(milliseconds: number): number {
  let count = 0;
  for (const end = now + milliseconds; now < end && turns.length > 0; now += 0.01) {
    for (const turn of turns.splice(0)) turn();
    count++;
  }
  return count;
}

function ask(after: number): void {
  now += after;
  poll.arrived();
  poll.answered();
}

test("looks for the next request of a client that asked at once, and not for long", () => {
  ask(5);
  expect(turns).toHaveLength(0);
  ask(0.05);
  expect(turnFor(10)).toBeLessThanOrEqual(22);
  expect(turns).toHaveLength(0);
});

test("does not look again until a client that was waited for in vain has asked at once", () => {
  ask(5);
  ask(0.05);
  turnFor(10);
  ask(5);
  expect(turns).toHaveLength(0);
  ask(0.05);
  expect(turns).toHaveLength(1);
});

test("while requests come at once there is one poll, not one for each", () => {
  ask(5);
  for (let request = 0; request < 100; request++) {
    ask(0.05);
    expect(turns.length).toBeLessThanOrEqual(1);
    turnFor(0.03);
  }
});

test("does not look while a request is being answered", () => {
  ask(5);
  ask(0.05);
  poll.arrived();
  expect(turnFor(10)).toBe(1);
  expect(turns).toHaveLength(0);
  poll.answered();
  expect(turns).toHaveLength(1);
});
