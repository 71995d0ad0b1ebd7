import { expect, test } from "@jest/globals";
import { deferred } from "../base/deferred.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { memorySource } from "../disk/testing/memory-source.ts";
import { WatchedSource } from "./watched-source.ts";

test("the longest wait is that of the oldest read that is not answered, also after it failed", async () => {
  const clock = new ManualClock();
  const gates = [deferred(), deferred()];
  let count = 0;
  const memory = memorySource(Buffer.alloc(4096, 3));
  const watched = new WatchedSource(
    {
      ...memory,
      async read(...args) {
        await gates[count++]?.promise;
        return memory.read(...args);
      },
    },
    clock,
  );
  expect(watched.longestWait).toBe(0);
  const first = watched.read(0, 10, "guest");
  await clock.advance(7000);
  const second = watched.read(10, 10, "relocation");
  await clock.advance(1000);
  expect(watched.longestWait).toBe(8000);
  gates[0]?.reject(new Error("away"));
  await expect(first).rejects.toThrow("away");
  expect(watched.longestWait).toBe(1000);
  gates[1]?.resolve();
  expect((await second)[0]).toBe(3);
  expect(watched.longestWait).toBe(0);
  expect(watched.extents(0, 10)).toEqual([{ offset: 0, length: 10, zero: false }]);
});
