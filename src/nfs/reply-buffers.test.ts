import { expect, test } from "@jest/globals";
import { ReplyBuffers } from "./reply-buffers.ts";

const target = {
  read: async (offset: number, length: number, into?: Buffer): Promise<Buffer> =>
    (into ?? Buffer.alloc(length)).subarray(0, length).fill(offset),
};

test("a buffer is lent again only after the socket has taken its data without an error", async () => {
  const buffers = new ReplyBuffers();
  const first = await buffers.read(target, 1, 4096);
  const second = await buffers.read(target, 2, 4096);
  expect([first[0], second[4095]]).toEqual([1, 2]);
  buffers.whenSent(first)?.(new Error("reset"));
  const third = await buffers.read(target, 3, 4096);
  expect(third.buffer).not.toBe(first.buffer);
  buffers.whenSent(second)?.();
  const fourth = await buffers.read(target, 4, 100);
  expect(fourth.buffer).toBe(second.buffer);
  expect(fourth).toHaveLength(100);
});

test("data that lies elsewhere, and pieces that are no data, are nobody's concern", async () => {
  const buffers = new ReplyBuffers();
  const own = Buffer.alloc(4096, 7);
  expect(await buffers.read({ read: async () => own }, 0, 4096)).toBe(own);
  expect(buffers.whenSent(own)).toBeUndefined();
  await expect(buffers.read({ read: () => Promise.reject(new Error("no")) }, 0, 4096)).rejects.toThrow("no");
});

test("a copied piece's buffer is lent again, once; what was gathered only when it is with the system", async () => {
  const buffers = new ReplyBuffers();
  const first = await buffers.read(target, 1, 4096);
  buffers.copied(first);
  buffers.copied(first);
  const second = await buffers.read(target, 2, 4096);
  const third = await buffers.read(target, 3, 4096);
  expect(second.buffer).toBe(first.buffer);
  expect(third.buffer).not.toBe(first.buffer);
  expect(buffers.whenSent(first)).toBeUndefined();

  const lost = buffers.gather();
  buffers.gathered(lost, new Error("reset"));
  const sent = buffers.gather();
  expect(sent).not.toBe(lost);
  buffers.gathered(sent);
  expect(buffers.gather()).toBe(sent);
});
