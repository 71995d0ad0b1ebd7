import { expect, test } from "@jest/globals";
import { heldBy } from "../../base/testing/held-by-signal.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { DiskError } from "../errors.ts";
import { SpaceWait } from "./space-wait.ts";

const full = (): Promise<never> => Promise.reject(new DiskError("OVERLAY_FULL", "the claim is full"));

test("who waits long leaves nothing with the signals that live as long as the disk", async () => {
  const clock = new ManualClock();
  const closing = new AbortController();
  const givenUp = new AbortController();
  const wait = new SpaceWait(clock, closing.signal);
  const writes = Array.from({ length: 4 }, () => wait.retry(full, givenUp.signal));
  const ends = Promise.allSettled(writes);
  await clock.advance(3000);
  const early = [heldBy(closing.signal), heldBy(givenUp.signal)];
  await clock.advance(20_000);
  for (let count = 0; count < 20; count++) await wait.orGiveUp(async () => undefined);
  expect([heldBy(closing.signal), heldBy(givenUp.signal)]).toEqual(early);
  expect(wait.full).toBe(true);
  const reason = new Error("closed");
  closing.abort(reason);
  expect((await ends).map((end) => end.status === "rejected" && end.reason === reason)).toEqual(writes.map(() => true));
  expect(wait.full).toBe(false);
});

test("what waits for something else gives up with the reason for which waits end, and so does whoever comes until they go on", async () => {
  const wait = new SpaceWait(new ManualClock(), new AbortController().signal);
  const reason = new DiskError("DISK_SEALED", "sealed");
  const reading = wait.orGiveUp(() => new Promise<never>(() => undefined));
  wait.end(reason);
  await expect(reading).rejects.toBe(reason);
  let isBegun = false;
  const begin = async (): Promise<void> => {
    isBegun = true;
  };
  await expect(wait.orGiveUp(begin)).rejects.toBe(reason);
  expect(isBegun).toBe(false);
  wait.resume();
  await wait.orGiveUp(begin);
  expect(isBegun).toBe(true);
});
