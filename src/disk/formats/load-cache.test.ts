import { expect, test } from "@jest/globals";
import { deferred } from "../../base/deferred.ts";
import type { ReadRequest } from "./image-file.ts";
import { LoadCache } from "./load-cache.ts";

function request(readClass: ReadRequest["readClass"]): ReadRequest {
  return { readClass, missed: false };
}

test("keeps what was used last, within its bytes", async () => {
  const cache = new LoadCache(1000);
  const loads: string[] = [];
  const get = (key: string, bytes: number): Promise<Buffer> =>
    cache.get(key, request("guest"), async () => {
      loads.push(key);
      return Buffer.alloc(bytes);
    });
  for (const key of ["a", "b", "a", "c", "a", "b"]) await get(key, 400);
  expect(loads).toEqual(["a", "b", "c", "b"]);
  expect(cache.bytes).toBe(800);
  expect(await get("large", 5000)).toHaveLength(5000);
  expect(cache.bytes).toBe(0);
});

test("readers of one class share what is loaded; another one does not wait for it", async () => {
  const cache = new LoadCache(1000);
  const slow = deferred<Buffer>();
  const load = async (own: ReadRequest): Promise<Buffer> => {
    own.missed = true;
    return own.readClass === "staging" ? slow.promise : Buffer.alloc(1, 5);
  };
  const staged = [request("staging"), request("staging")];
  const waiting = staged.map((own) => cache.get("a", own, load));
  const guest = request("guest");
  expect(await cache.get("a", guest, load)).toEqual(Buffer.alloc(1, 5));
  expect(guest.missed).toBe(true);
  slow.resolve(Buffer.alloc(1, 6));
  expect(await Promise.all(waiting)).toEqual([Buffer.alloc(1, 6), Buffer.alloc(1, 6)]);
  expect(staged.every(({ missed }) => missed)).toBe(true);
  const later = request("guest");
  await cache.get("a", later, load);
  expect(later.missed).toBe(false);
});

test("a failure is told to all who wait, and tried again by the next", async () => {
  const cache = new LoadCache(1000);
  const fail = (): Promise<Buffer> => Promise.reject(new Error("away"));
  const both = [cache.get("a", request("guest"), fail), cache.get("a", request("guest"), fail)];
  expect((await Promise.allSettled(both)).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(await cache.get("a", request("guest"), async () => Buffer.alloc(2))).toHaveLength(2);
});
