import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { Residency, readFromDevice } from "./residency.ts";

test("knows what was noted, piece by piece", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(99), fc.nat(20)), { maxLength: 20 }),
      fc.nat(99),
      fc.nat(20),
      (noted, at, n) => {
        const residency = new Residency(
          () => 1,
          () => 0,
        );
        const pieces = residency.none(120);
        const model = new Set<number>();
        for (const [first, count] of noted) {
          residency.note(pieces, first, count);
          for (let index = first; index < first + count; index++) model.add(index);
        }
        const isNoted = Array.from({ length: n }, (_, index) => at + index).every((index) => model.has(index));
        expect(residency.has(pieces, at, n)).toBe(noted.length > 0 && isNoted);
      },
    ),
  );
});

test("one read that waited for a device ends all belief, and none begins for two seconds", () => {
  let now = 1000;
  let fromDevice = 0;
  const residency = new Residency(
    () => now,
    () => fromDevice,
  );
  const pieces = [residency.none(8), residency.none(8)] as const;
  for (const each of pieces) residency.note(each, 0, 8);
  // Slow, but the thread only had to wait for a processor; and from a device, but fast.
  residency.watch(() => {
    now += 50;
  });
  residency.watch(() => {
    now += 3;
    fromDevice += 4096;
  });
  for (const each of pieces) expect(residency.has(each, 0, 8)).toBe(true);

  expect(() =>
    residency.watch(() => {
      now += 4;
      fromDevice += 4096;
      throw new Error("the device failed after a while");
    }),
  ).toThrow("the device failed");
  for (const each of pieces) expect(residency.has(each, 0, 1)).toBe(false);
  now += 1999;
  residency.note(pieces[0], 0, 8);
  expect(residency.has(pieces[0], 0, 1)).toBe(false);
  now += 1;
  residency.note(pieces[0], 2, 1);
  expect(residency.has(pieces[0], 2, 1)).toBe(true);
  expect(residency.has(pieces[0], 0, 1)).toBe(false);
});

test("what the thread read from a device for another reason ends no belief, once a second has passed", () => {
  let now = 1000;
  let fromDevice = 0;
  const residency = new Residency(
    () => now,
    () => fromDevice,
  );
  const pieces = residency.none(8);
  residency.note(pieces, 0, 8);
  // A module was loaded, say.
  fromDevice += 4096;
  now += 1001;
  residency.watch(() => {
    now += 50;
  });
  expect(residency.has(pieces, 0, 8)).toBe(true);
});

test("where nobody can say what came from a device, slow means that it did", () => {
  let now = 0;
  const residency = new Residency(
    () => now,
    () => undefined,
  );
  const pieces = residency.none(8);
  residency.note(pieces, 0, 8);
  residency.watch(() => {
    now += 4;
  });
  expect(residency.has(pieces, 0, 1)).toBe(false);
});

test("the kernel says what this thread has read from devices", () => {
  const before = readFromDevice();
  expect(before).toBeGreaterThanOrEqual(0);
  expect(readFromDevice()).toBeGreaterThanOrEqual(before ?? 0);
});
