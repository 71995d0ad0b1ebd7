import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { chooseId, type Snapshot, selectSnapshot, toSnapshot } from "./snapshot.ts";

const ID = "ab".repeat(32);
const file = { time: "2026-01-02T03:04:05.123456789+01:00", tree: ID, paths: ["/a"], hostname: "h", tags: ["x"] };

function snapshot(id: string, time: string, more: Partial<Snapshot> = {}): Snapshot {
  return { ...toSnapshot(id, { ...file, time }), ...more };
}

describe("snapshot files", () => {
  test("read as restic writes them, now and in later versions", () => {
    const later = { ...file, program_version: "restic 0.18", summary: { files_new: 1 }, excludes: ["*"], uid: 0 };
    expect(toSnapshot(ID, later)).toMatchObject({ id: ID, tree: ID, host: "h", paths: ["/a"], tags: ["x"] });
    expect(toSnapshot(ID, { time: file.time, tree: ID })).toMatchObject({ host: "", paths: [], tags: [] });
    expect(toSnapshot(ID, { ...file, tags: null }).tags).toEqual([]);
    const many = Array.from({ length: 50_000 }, (_, index) => `/srv/${index}`);
    expect(toSnapshot(ID, { ...file, paths: many, tags: many }).paths).toEqual(many);
    expect(toSnapshot(ID, file).time).toBe(Date.parse("2026-01-02T02:04:05.123Z"));
  });

  test("anything else is damage", () => {
    const wrong = fc.oneof(
      fc.jsonValue(),
      fc.record({ time: fc.string(), tree: fc.string() }),
      fc.record({ time: fc.constant(file.time), tree: fc.constant("../config") }),
      fc.constant({ ...file, time: "yesterday" }),
      fc.constant({ ...file, paths: "/a" }),
    );
    fc.assert(
      fc.property(wrong, (content) => {
        expect(() => toSnapshot(ID, content)).toThrow(expect.objectContaining({ code: "REPOSITORY_OBJECT_DAMAGED" }));
      }),
    );
  });
});

describe("selection", () => {
  const all = [
    snapshot("aa11", "2026-01-01T00:00:00Z", { host: "a", tags: ["x", "y"], paths: ["/d"] }),
    snapshot("aa22", "2026-01-02T00:00:00Z", { host: "a", tags: ["x"], paths: ["/d", "/e"] }),
    snapshot("bb33", "2026-01-03T01:00:00+02:00", { host: "b", tags: [], paths: ["/d"] }),
    snapshot("cc44", "2026-02-01T00:00:00Z", { host: "vmrestore-pin-1", tags: ["x"], paths: ["/d"] }),
  ];
  const chosen = (selector: Parameters<typeof selectSnapshot>[1]): string => selectSnapshot(all, selector).id;
  const failing = (selector: Parameters<typeof selectSnapshot>[1]): unknown => {
    try {
      return chosen(selector);
    } catch (error) {
      return error;
    }
  };

  test("the latest that fits everything; a pin is nobody's backup", () => {
    expect(chosen({ latest: {} })).toBe("bb33");
    expect(chosen({ latest: { host: "a" } })).toBe("aa22");
    expect(chosen({ latest: { tags: ["y", "x"] } })).toBe("aa11");
    expect(chosen({ latest: { path: "/e" } })).toBe("aa22");
    expect(chosen({ latest: { before: "2026-01-02T00:00:00Z" } })).toBe("aa11");
    expect(chosen({ latest: { before: "2026-01-02T00:00:00.001Z" } })).toBe("aa22");
    // Time zones: 01:00+02:00 is 23:00 of the day before.
    expect(chosen({ latest: { before: "2026-01-02T23:30:00Z" } })).toBe("bb33");
  });

  test("by id, or the beginning of it; pins too", () => {
    const ids = all.map(({ id }) => id);
    expect(chooseId(ids, "aa1")).toBe("aa11");
    expect(chooseId(ids, "cc44")).toBe("cc44");
    expect(() => chooseId(ids, "aa")).toThrow(expect.objectContaining({ code: "SNAPSHOT_AMBIGUOUS" }));
    expect(() => chooseId(ids, "dd")).toThrow(expect.objectContaining({ code: "SNAPSHOT_NOT_FOUND" }));
    expect(() => chooseId(ids, "")).toThrow(expect.objectContaining({ code: "SNAPSHOT_NOT_FOUND" }));
  });

  test("nothing fits: says what there is", () => {
    expect(failing({ latest: { host: "z" } })).toMatchObject({
      code: "SNAPSHOT_NOT_FOUND",
      hint: "There are snapshots of: a, b.",
    });
  });

  test("a time that is none chooses nothing, instead of anything", () => {
    expect(failing({ latest: { before: "last tuesday" } })).toMatchObject({ code: "SNAPSHOT_NOT_FOUND" });
  });

  test("two of one millisecond: restic's nanoseconds decide", () => {
    const one = snapshot("11", "2026-01-01T00:00:00.123456789Z");
    const two = snapshot("22", "2026-01-01T00:00:00.123456788Z");
    for (const list of [
      [one, two],
      [two, one],
    ]) {
      expect(selectSnapshot(list, { latest: {} }).id).toBe("11");
    }
  });
});
