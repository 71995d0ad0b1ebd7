import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { isDemand, isMoreUrgent, isRelocations, READ_REASONS, ReadQueue, type ReadReason } from "./read-queue.ts";

const IDLE = { free: 8, runningDemand: 0, relocationHeld: false };

function drain(queue: ReadQueue, slots = IDLE): string[] {
  const order: string[] = [];
  for (let next = queue.next(slots); next !== undefined; next = queue.next(slots)) order.push(next.id);
  return order;
}

test("demand before staged, the boot set before what lies ahead, first come first served", () => {
  const queue = new ReadQueue();
  queue.add("a1", "ahead");
  queue.add("y1", "hydrate");
  queue.add("b1", "boot");
  queue.add("r1", "relocation");
  queue.add("g1", "guest");
  queue.add("b2", "boot");
  queue.add("h1", "readahead");
  queue.add("g2", "guest");
  expect(drain(queue)).toEqual(["g1", "g2", "r1", "b1", "b2", "h1", "y1", "a1"]);
});

test("guest reads and the relocation take turns while it runs", () => {
  const queue = new ReadQueue();
  queue.relocating = true;
  for (const n of [1, 2, 3]) queue.add(`g${n}`, "guest");
  for (const n of [1, 2]) queue.add(`l${n}`, "lead");
  queue.add("r1", "relocation");
  expect(drain(queue)).toEqual(["g1", "r1", "g2", "l1", "g3", "l2"]);
});

test("what is staged for the guest counts as its side, and waits for its reads only", () => {
  const queue = new ReadQueue();
  queue.relocating = true;
  for (const n of [1, 2]) queue.add(`b${n}`, "boot");
  for (const n of [1, 2, 3]) queue.add(`l${n}`, "lead");
  queue.add("g1", "guest");
  expect(drain(queue)).toEqual(["g1", "l1", "b1", "l2", "b2", "l3"]);
});

test("a guest that keeps every slot busy does not keep the lead out, nor what was staged before relocation began", () => {
  const queue = new ReadQueue();
  queue.add("a1", "ahead");
  queue.relocating = true;
  for (const n of [1, 2, 3]) queue.add(`g${n}`, "guest");
  const busy = { ...IDLE, free: 1, runningDemand: 7 };
  expect(drain(queue, busy)).toEqual(["g1", "a1", "g2", "g3"]);
  queue.add("l1", "lead");
  expect(queue.next(busy)).toBeUndefined();
  queue.add("g4", "guest");
  // The only slot that is not staged stays the guest's.
  expect(queue.next({ ...IDLE, free: 1, runningDemand: 0 })?.id).toBe("g4");
});

test("a staged read leaves the last slot free", () => {
  const queue = new ReadQueue();
  queue.add("b1", "boot");
  queue.add("l1", "lead");
  expect(queue.next({ ...IDLE, free: 1, runningDemand: 0 })).toBeUndefined();
  queue.relocating = true;
  expect(queue.next({ ...IDLE, free: 1, runningDemand: 0 })).toBeUndefined();
  queue.add("g1", "guest");
  expect(queue.next({ ...IDLE, free: 1, runningDemand: 0 })?.id).toBe("g1");
  expect(queue.next({ ...IDLE, free: 0, runningDemand: 0 })).toBeUndefined();
});

test("what lies ahead waits while a demand read runs; the boot set does not", () => {
  const queue = new ReadQueue();
  queue.add("a1", "ahead");
  queue.add("b1", "boot");
  expect(drain(queue, { ...IDLE, free: 5, runningDemand: 1 })).toEqual(["b1"]);
  expect(drain(queue)).toEqual(["a1"]);
});

test.each([true, false])(
  "a relocation that holds all it may starts nothing; the guest does (relocating: %s)",
  (relocating) => {
    const queue = new ReadQueue();
    queue.relocating = relocating;
    queue.add("r1", "relocation");
    queue.add("l1", "lead");
    queue.add("a1", "ahead");
    queue.add("b1", "boot");
    queue.add("g1", "guest");
    expect(queue.waitingForGuest).toBe(2);
    const held = { ...IDLE, relocationHeld: true };
    expect(drain(queue, held)).toEqual(["g1", "b1"]);
    queue.add("b2", "boot");
    // What waits for its turn takes nothing: the last slot stays the guest's.
    expect(queue.next({ ...held, free: 1, runningDemand: 7 })).toBeUndefined();
    expect(drain(queue).sort()).toEqual(["a1", "b2", "l1", "r1"]);
  },
);

test("what another agent needs waits for all that is the guest's here, takes turns as the relocation does, and never the last slot", () => {
  const queue = new ReadQueue();
  const fill = (): void => {
    for (const reason of ["ahead", "peer", "hydrate", "boot", "guest", "relocation"] as const)
      queue.add(reason, reason);
  };
  fill();
  expect(drain(queue)).toEqual(["guest", "relocation", "boot", "hydrate", "peer", "ahead"]);
  queue.add("p", "peer");
  expect(queue.next({ ...IDLE, free: 1 })).toBeUndefined();
  expect(queue.next({ ...IDLE, relocationHeld: true })).toBeUndefined();
  // A guest that boots reads all the time: others would get nothing.
  expect(queue.next({ ...IDLE, runningDemand: 1 })?.id).toBe("p");
  queue.relocating = true;
  fill();
  queue.add("lead", "lead");
  expect(drain(queue)).toEqual(["guest", "relocation", "boot", "lead", "hydrate", "peer", "ahead"]);
});

test("a blob moves up for a more urgent reason, and never down", () => {
  const queue = new ReadQueue();
  queue.add("x", "ahead");
  queue.add("y", "guest");
  queue.add("x", "guest");
  queue.add("y", "boot");
  expect([queue.waiting("ahead"), queue.waiting("boot"), queue.waiting("guest")]).toEqual([0, 0, 2]);
  expect(drain(queue)).toEqual(["y", "x"]);
});

test("holds its rules in any history", () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant("add" as const), id: fc.nat(30), reason: fc.constantFrom(...READ_REASONS) }),
    fc.record({
      kind: fc.constant("next" as const),
      free: fc.nat(3),
      runningDemand: fc.nat(1),
      relocationHeld: fc.boolean(),
    }),
    fc.record({ kind: fc.constant("relocating" as const), value: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const queue = new ReadQueue();
      const model = new Map<string, ReadReason>();
      let last: ReadReason | undefined;
      for (const step of actions) {
        if (step.kind === "relocating") {
          queue.relocating = step.value;
          last = undefined;
        } else if (step.kind === "add") {
          const id = String(step.id);
          const known = model.get(id);
          if (known === undefined || isMoreUrgent(step.reason, known)) model.set(id, step.reason);
          queue.add(id, step.reason);
        } else {
          const next = queue.next(step);
          const waiting = (...reasons: ReadReason[]): boolean =>
            [...model.values()].some((reason) => reasons.includes(reason));
          if (next === undefined) {
            const demand = waiting("guest") || (waiting("relocation") && !step.relocationHeld);
            expect(step.free > 0 && demand).toBe(false);
            continue;
          }
          expect(model.get(next.id)).toBe(next.reason);
          model.delete(next.id);
          expect(isRelocations(next.reason) && step.relocationHeld).toBe(false);
          const isLead = next.reason === "lead" || next.reason === "ahead";
          if (!isDemand(next.reason)) {
            expect(step.free + (queue.relocating ? step.runningDemand : 0)).toBeGreaterThanOrEqual(2);
            expect(waiting("guest") && !(queue.relocating && isLead)).toBe(false);
          }
          if (!queue.relocating && isLead) expect(step.runningDemand).toBe(0);
          if (queue.relocating && next.reason === "guest" && last === "guest") {
            expect(waiting("relocation") && !step.relocationHeld).toBe(false);
            expect(step.free >= 2 && waiting("lead", "ahead") && !step.relocationHeld).toBe(false);
          }
          if (queue.relocating && isLead && (last === "lead" || last === "ahead")) expect(waiting("guest")).toBe(false);
          last = next.reason;
        }
      }
      for (const reason of READ_REASONS) {
        expect(queue.waiting(reason)).toBe([...model.values()].filter((value) => value === reason).length);
      }
    }),
  );
});
