import { expect, test } from "@jest/globals";
import { turnsDuring } from "../testing/turns.ts";
import { blobsOf } from "./blobs.ts";

const LENGTHS = [10, 20, 30, 40, 10];
const IDS = ["a", "b", "zero", "c", "a"];

const file = {
  size: 110,
  *blobsIn(offset: number, length: number) {
    let start = 0;
    for (const [index, bytes] of LENGTHS.entries()) {
      const id = IDS[index] ?? "";
      const blob = { index, id, offset: start, length: bytes, zero: id === "zero" };
      if (start < offset + length && start + bytes > offset) yield blob;
      start += bytes;
    }
  },
};

test("names each blob once, in the order of the extents, without zeros", async () => {
  const extents = [
    { offset: 60, length: 1 },
    { offset: 5, length: 30 },
    { offset: 100, length: 10 },
  ];
  expect(await blobsOf(file, extents, 1000)).toEqual([
    { id: "c", length: 40 },
    { id: "a", length: 10 },
    { id: "b", length: 20 },
  ]);
});

test("ends where the limit is reached", async () => {
  expect((await blobsOf(file, [{ offset: 0, length: 110 }], 30)).map(({ id }) => id)).toEqual(["a", "b"]);
  expect(await blobsOf(file, [{ offset: 0, length: 110 }], 9)).toEqual([]);
});

test("lets others have their turn between the extents", async () => {
  const extents = Array(5000).fill({ offset: 0, length: 1 });
  expect(await turnsDuring(blobsOf(file, extents, 1000))).toBeGreaterThan(10);
});
