import { expect, test } from "@jest/globals";
import { withEither } from "./either-signal.ts";
import { heldBy } from "./testing/held-by-signal.ts";

/** Rejects with the signal's reason. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

test("it is aborted with any of the signals, for the same reason, and never by one that was aborted after another", async () => {
  for (const at of [0, 1]) {
    const both = [new AbortController(), new AbortController()];
    const waiting = withEither(
      both.map(({ signal }) => signal),
      untilAborted,
    );
    const reason = new Error("over");
    both[at]?.abort(reason);
    both[1 - at]?.abort(new Error("too late"));
    await expect(waiting).rejects.toBe(reason);
  }
});

test("one that was aborted before counts", async () => {
  const [first, second] = [new AbortController(), new AbortController()];
  const reason = new Error("over");
  second.abort(reason);
  await expect(withEither([first.signal, second.signal], untilAborted)).rejects.toBe(reason);
});

test("nothing stays with the signals, whether the body succeeds or fails", async () => {
  const [first, second] = [new AbortController().signal, new AbortController().signal];
  const use = (): Promise<unknown> =>
    Promise.all([
      withEither([first, second], async () => undefined),
      withEither([first, second], async () => Promise.reject(new Error("failed"))).catch(() => undefined),
    ]);
  await use();
  const before = [heldBy(first), heldBy(second)];
  for (let count = 0; count < 20; count++) await use();
  expect([heldBy(first), heldBy(second)]).toEqual(before);
  // That the measure sees what it is about.
  const kept = Array.from({ length: 3 }, () => AbortSignal.any([first, second]));
  expect([heldBy(first), heldBy(second)]).toEqual(before.map((held) => held + kept.length));
});
