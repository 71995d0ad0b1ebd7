import { expect, test } from "@jest/globals";
import { ClaimRoom } from "./claim-room.ts";

const full = { code: "OVERLAY_FULL" };

test("data gets what is free beyond what is kept, and no more", async () => {
  let free = 1000;
  const room = new ClaimRoom({ free: async () => free }, 100);
  room.keep(300);
  const over = await room.take(600);
  await expect(room.take(1)).rejects.toMatchObject(full);
  free = 400;
  over(true);
  await expect(room.take(1)).rejects.toMatchObject(full);
  await room.take(0);
  free = 450;
  await room.take(50);
});

test("a write that is over while the free bytes are looked at is taken off: they may be those of before it", async () => {
  let answer: (free: number) => void = () => undefined;
  let looks = 0;
  const free = (): Promise<number> => {
    looks++;
    return new Promise((resolve) => {
      answer = resolve;
    });
  };
  const room = new ClaimRoom({ free });
  const first = room.take(60);
  answer(100);
  const over = await first;
  const others = [room.take(50), room.take(30), room.take(20)].map((taking) =>
    taking.then(
      () => "taken",
      () => "full",
    ),
  );
  over(true);
  answer(100);
  expect(await Promise.all(others)).toEqual(["full", "taken", "full"]);
  expect(looks).toBe(2);
});

test("who finds less space than was told makes the next one look again; where nobody can tell, each may try", async () => {
  let looks = 0;
  const free = (): Promise<number> => {
    looks++;
    return looks === 1 ? Promise.resolve(1000) : Promise.reject(new Error("not told"));
  };
  const room = new ClaimRoom({ free });
  (await room.take(10))(false);
  await room.take(2 ** 40);
  expect(looks).toBe(2);
});

test("after 64 MiB they are looked at again: somebody else may write there", async () => {
  let free = 2 ** 30;
  const room = new ClaimRoom({ free: async () => free });
  (await room.take(65 * 2 ** 20))(true);
  free = 0;
  await expect(room.take(1)).rejects.toMatchObject(full);
});
