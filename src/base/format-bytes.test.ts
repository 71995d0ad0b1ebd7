import { expect, test } from "@jest/globals";
import { formatBytes } from "./format-bytes.ts";

test("an amount of bytes is written as people read it", () => {
  expect([0, 999, 1024, 1536, 5 * 1024 ** 3].map(formatBytes)).toEqual([
    "0 B",
    "999 B",
    "1.0 KiB",
    "1.5 KiB",
    "5.0 GiB",
  ]);
});
