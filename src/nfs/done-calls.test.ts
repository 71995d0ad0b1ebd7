import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { type CallIdentity, DoneCalls } from "./done-calls.ts";

const call = (xid: number, more: Partial<CallIdentity> = {}): CallIdentity => ({
  ...{ caller: 1, checksum: 2, length: 3, xid },
  ...more,
});

test("tells calls apart by caller, XID, checksum and length", () => {
  const done = new DoneCalls(() => 0);
  done.set(call(7), 0);
  done.set(call(7, { checksum: 9 }), 28);
  expect(done.get(call(7))).toBe(0);
  expect(done.get(call(7, { checksum: 9 }))).toBe(28);
  for (const other of [{ caller: 2 }, { length: 4 }, { checksum: 3 }, { xid: 8 }])
    expect(done.get(call(7, other))).toBeUndefined();
  done.set(call(0xffffffff, { caller: 0xffffffff, checksum: 0xffffffff, length: 0xffffffff }), 10_008);
  expect(done.get(call(0xffffffff, { caller: 0xffffffff, checksum: 0xffffffff, length: 0xffffffff }))).toBe(10_008);
});

test("forgets the oldest first, and says from when on it knows everything", () => {
  let now = 0;
  const done = new DoneCalls(() => now, { tables: 3, callsPerTable: 10, retainMs: 1_000_000 });
  for (let xid = 0; xid < 100; xid++) {
    now = xid;
    done.set(call(xid), 5);
    for (let other = 0; other <= xid; other++) {
      const status = done.get(call(other));
      if (other > done.forgottenUntil) expect(status).toBe(5);
      // Bounded: three tables of ten.
      if (other <= xid - 30) expect(status).toBeUndefined();
    }
  }
  expect(done.forgottenUntil).toBeGreaterThanOrEqual(69);
});

test("forgets what is older than it is told to keep", () => {
  let now = 0;
  const done = new DoneCalls(() => now, { tables: 4, callsPerTable: 1000, retainMs: 1000 });
  done.set(call(1), 0);
  now = 900;
  done.set(call(2), 0);
  expect(done.get(call(1))).toBe(0);
  now = 1500;
  done.set(call(3), 0);
  expect([done.get(call(1)), done.get(call(2)), done.get(call(3))]).toEqual([undefined, 0, 0]);
  expect(done.forgottenUntil).toBe(0);
});

test("equals a map while nothing is forgotten", () => {
  // Few values, so that places collide.
  const word = fc.constantFrom(0, 1, 2, 0x80000000, 0xffffffff);
  const identity = fc.record({ caller: word, xid: word, checksum: word, length: word });
  fc.assert(
    fc.property(fc.array(fc.tuple(identity, fc.constantFrom(0, 28, 10_008)), { maxLength: 400 }), (calls) => {
      const done = new DoneCalls(() => 0, { tables: 2, callsPerTable: 400, retainMs: 1 });
      const model = new Map<string, number>();
      const key = ({ caller, xid, checksum, length }: CallIdentity): string => `${caller} ${xid} ${checksum} ${length}`;
      for (const [each, status] of calls) {
        expect(done.get(each)).toBe(model.get(key(each)));
        done.set(each, status);
        model.set(key(each), status);
      }
      for (const [each] of calls) expect(done.get(each)).toBe(model.get(key(each)));
    }),
  );
});
