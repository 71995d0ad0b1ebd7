import { expect, test } from "@jest/globals";
import { FairSlots } from "./fair-slots.ts";

const never = new AbortController().signal;
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("gives a free slot to who has come least far, then to who waits longest", async () => {
  const slots = new FairSlots(1);
  const order: string[] = [];
  const wait = (name: string, fraction: () => number): void => {
    void slots.acquire(fraction, never).then(() => order.push(name));
  };
  wait("first", () => 0.9);
  let moving = 0.1;
  wait("ahead", () => 0.5);
  wait("moving", () => moving);
  wait("behind", () => 0.2);
  wait("behind, later", () => 0.2);
  await settle();
  expect(order).toEqual(["first"]);
  moving = 0.8;
  for (let count = 0; count < 4; count++) {
    slots.release();
    await settle();
  }
  expect(order).toEqual(["first", "behind", "behind, later", "ahead", "moving"]);
});

test("disks of different size arrive together", async () => {
  const slots = new FairSlots(4);
  const sizes = [100, 400];
  const done = [0, 0];
  const apart: number[] = [];
  await Promise.all(
    sizes.map(async (size, disk) => {
      const fraction = (): number => (done[disk] ?? 0) / size;
      const pieces: Promise<void>[] = [];
      for (let piece = 0; piece < size; piece++) {
        await slots.acquire(fraction, never);
        pieces.push(
          settle().then(() => {
            done[disk] = (done[disk] ?? 0) + 1;
            const [small = 0, large = 0] = done;
            apart.push(Math.abs(small / 100 - large / 400));
            slots.release();
          }),
        );
      }
      await Promise.all(pieces);
    }),
  );
  expect(Math.max(...apart)).toBeLessThan(0.06);
});

test("never lets more in than there are slots, also when waiters give up", async () => {
  const slots = new FairSlots(2);
  await slots.acquire(() => 0, never);
  await slots.acquire(() => 0, never);
  const abort = new AbortController();
  const given = slots.acquire(() => 0, abort.signal);
  let entered = false;
  void slots
    .acquire(() => 0.5, never)
    .then(() => {
      entered = true;
    });
  abort.abort(new Error("enough"));
  await expect(given).rejects.toThrow("enough");
  await expect(slots.acquire(() => 0, abort.signal)).rejects.toThrow("enough");
  expect(entered).toBe(false);
  slots.release();
  await settle();
  expect(entered).toBe(true);
});
