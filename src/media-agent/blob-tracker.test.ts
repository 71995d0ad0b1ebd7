import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { BlobTracker } from "./blob-tracker.ts";

test("what relocation moved and nobody reads goes first; the lead and the boot set go last", () => {
  const tracker = new BlobTracker();
  tracker.stored("relocated", 1, "relocation");
  tracker.stored("both", 1, "relocation");
  tracker.read("both", 1, "guest");
  tracker.stored("read", 1, "guest");
  tracker.stored("lead", 1, "ahead");
  tracker.stored("boot", 1, "boot");
  const order = ["relocated", "both", "unknown", "read", "lead", "boot"];
  expect([...order].reverse().sort((a, b) => tracker.rank(a) - tracker.rank(b))).toEqual(order);
});

test("a boot set that is no longer waited for is worth no more than others", () => {
  const tracker = new BlobTracker();
  tracker.stored("a", 1, "boot");
  tracker.stored("b", 1, "boot");
  tracker.read("a", 1, "guest");
  expect(tracker.rank("a")).toBeLessThan(tracker.rank("b"));
  tracker.bootFinished = true;
  expect(tracker.rank("b")).toBe(tracker.rank("never seen"));
});

test("what the relocation has left behind goes first, also after a restart; an unfinished boot set does not", () => {
  const tracker = new BlobTracker();
  tracker.passed("from before", 1);
  tracker.stored("boot", 1, "boot");
  tracker.passed("boot", 1);
  tracker.passed("read", 1);
  tracker.read("read", 1, "guest");
  const order = ["from before", "read", "unknown", "boot"];
  expect([...order].reverse().sort((a, b) => tracker.rank(a) - tracker.rank(b))).toEqual(order);
});

test("lead is what is staged and not yet read or passed", () => {
  const tracker = new BlobTracker();
  tracker.stored("a", 10, "lead");
  tracker.stored("b", 20, "ahead");
  tracker.markLead("c", 30);
  tracker.markLead("c", 30);
  expect(tracker.leadBytes).toBe(60);
  tracker.read("a", 10, "relocation");
  tracker.read("b", 20, "guest");
  expect(tracker.leadBytes).toBe(50);
  tracker.passed("b", 20);
  tracker.passed("b", 20);
  expect(tracker.leadBytes).toBe(30);
});

test("tells what was staged and read by whom it was staged for", () => {
  const tracker = new BlobTracker();
  tracker.stored("a", 10, "boot");
  tracker.stored("b", 20, "boot");
  tracker.stored("c", 40, "lead");
  tracker.stored("d", 80, "ahead");
  expect(tracker.staged).toEqual({ unread: { boot: 30, lead: 120 }, read: { boot: 0, lead: 0 } });
  tracker.read("a", 10, "guest");
  tracker.read("a", 10, "guest");
  tracker.read("c", 40, "guest");
  tracker.read("c", 40, "relocation");
  tracker.read("x", 5, "relocation");
  tracker.passed("d", 80);
  expect(tracker.staged).toEqual({ unread: { boot: 20, lead: 0 }, read: { boot: 10, lead: 40 } });
});

test("the count of lead bytes fits any history, and memory is bounded", () => {
  const step = fc.tuple(fc.constantFrom("stored", "mark", "read", "guest", "passed", "prune"), fc.nat(20));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const tracker = new BlobTracker();
      const lead = new Set<string>();
      for (const [kind, number] of steps) {
        const id = String(number);
        if (kind === "stored") tracker.stored(id, number, "lead");
        if (kind === "mark") tracker.markLead(id, number);
        if (kind === "stored" || kind === "mark") lead.add(id);
        if (kind === "read") tracker.read(id, number, "relocation");
        if (kind === "passed") tracker.passed(id, number);
        if (kind === "read" || kind === "passed") lead.delete(id);
        if (kind === "guest") tracker.read(id, number, "guest");
        expect(tracker.leadBytes).toBe([...lead].reduce((sum, blob) => sum + Number(blob), 0));
      }
    }),
  );
  const tracker = new BlobTracker();
  for (let index = 0; index < 5000; index++) {
    tracker.stored(`blob ${index}`, 1, "lead");
    tracker.prune({ size: 10, has: (id) => id === "blob 0" });
  }
  expect(tracker.leadBytes).toBeLessThanOrEqual(2 * 10 + 1024 + 1);
});
