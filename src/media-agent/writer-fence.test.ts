import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { admission, machineOf, mounted, NO_MOUNTS, takenOver, type WriterFence, writerFence } from "./writer-fence.ts";

const mountsOf = (...names: string[]): WriterFence => names.reduce(mounted, NO_MOUNTS);

describe("who may write", () => {
  test("the first who does, and from then on nobody who has mounted before", () => {
    const fence = mountsOf("a", "b", "c");
    expect([1, 2, 3].map((mount) => admission(fence, mount))).toEqual(["successor", "successor", "successor"]);
    const taken = takenOver(fence, 2);
    expect([0, 1, 2, 3].map((mount) => admission(taken, mount))).toEqual([
      ...["superseded", "superseded", "writer", "successor"],
    ]);
  });

  test("a machine that moves away and comes back, by a new mount, but not by the one that it had", () => {
    const away = takenOver(takenOver(mountsOf("a", "b"), 1), 2);
    const back = takenOver(mounted(away, "a"), 3);
    expect([1, 2, 3].map((mount) => admission(back, mount))).toEqual(["superseded", "superseded", "writer"]);
    expect(machineOf(back, back.writer)).toBe("a");
  });

  test("a target that mounted while an earlier one had not written yet", () => {
    const both = mounted(takenOver(mountsOf("a", "b"), 1), "c");
    expect(admission(takenOver(both, 2), 3)).toBe("successor");
    expect(admission(takenOver(both, 3), 2)).toBe("superseded");
  });

  test("mounts that were made before they were numbered, until one that has a number writes", () => {
    expect(admission(NO_MOUNTS, 0)).toBe("successor");
    const old = mounted(takenOver(NO_MOUNTS, 0), "b");
    expect([admission(old, 0), admission(old, 1)]).toEqual(["writer", "successor"]);
    expect(admission(takenOver(old, 1), 0)).toBe("superseded");
  });
});

test("the names of the last mounts are kept, and the writer's", () => {
  let fence = takenOver(mountsOf("the writer"), 1);
  for (let count = 0; count < 100; count++) fence = mounted(fence, `m${count}`);
  expect(fence.machines).toHaveLength(64);
  expect(machineOf(fence, 1)).toBe("the writer");
  expect(machineOf(fence, 101)).toBe("m99");
  expect(machineOf(fence, 2)).toBe("");
  expect(fence.mounts).toBe(101);
});

test("whatever is mounted and written in whatever order, nobody writes after a later mount has, and a new mount always may", () => {
  const step = fc.oneof(fc.constant("mount" as const), fc.constant("restart" as const), fc.nat(12));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let fence = NO_MOUNTS;
      const numbers: number[] = [0];
      let highest = -1;
      for (const each of steps) {
        if (each === "restart") fence = writerFence.parse(JSON.parse(JSON.stringify(fence)));
        else if (each === "mount") {
          fence = mounted(fence, "m");
          expect(numbers).not.toContain(fence.mounts);
          numbers.push(fence.mounts);
          expect(admission(fence, fence.mounts)).toBe("successor");
        } else {
          const mount = numbers[each % numbers.length] as number;
          expect(admission(fence, mount) !== "superseded").toBe(mount >= highest);
          fence = takenOver(fence, mount);
          highest = Math.max(highest, mount);
          expect(fence.writer).toBe(highest);
        }
      }
    }),
  );
});
