import { expect, test } from "@jest/globals";
import { systemClock } from "./clock.ts";

test("a sleep that is aborted rejects with the signal's own reason, before it or in it", async () => {
  const reason = new Error("enough");
  await expect(systemClock.sleep(60_000, AbortSignal.abort(reason))).rejects.toBe(reason);
  const controller = new AbortController();
  const sleeping = systemClock.sleep(60_000, controller.signal);
  controller.abort(reason);
  await expect(sleeping).rejects.toBe(reason);
});

test("it wakes by itself", async () => {
  await systemClock.sleep(1, new AbortController().signal);
  await systemClock.sleep(1);
});
