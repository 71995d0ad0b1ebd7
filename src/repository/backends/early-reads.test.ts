import { expect, test } from "@jest/globals";
import { deferred } from "../../base/deferred.ts";
import type { Backend, FileName } from "./backend.ts";
import { EarlyReads } from "./early-reads.ts";

/** Every read waits to be answered. */
function bench() {
  const asked: string[] = [];
  const answers: ReturnType<typeof deferred<Buffer>>[] = [];
  const backend = {
    location: "here",
    requestCost: 0,
    readAll: ({ type, name }: FileName) => {
      asked.push(`${type}/${name}`);
      const answer = deferred<Buffer>();
      answers.push(answer);
      return answer.promise;
    },
    list: async (type: string) => {
      asked.push(type);
      return [`${type}${asked.length}`];
    },
  } as unknown as Backend;
  return { early: new EarlyReads(backend), asked, answers };
}
const file: FileName = { type: "index", name: "a" };

test("what was begun is given to the first who asks, and read anew for the next", async () => {
  const { early, asked, answers } = bench();
  void early.begin(file, 10);
  const first = early.readAll(file, 10);
  expect(asked).toEqual(["index/a"]);
  answers[0]?.resolve(Buffer.from("first"));
  expect(String(await first)).toBe("first");
  const second = early.readAll(file, 10);
  expect(asked).toEqual(["index/a", "index/a"]);
  answers[1]?.resolve(Buffer.from("second"));
  expect(String(await second)).toBe("second");
});

test("a failure is told to whoever asks, harms nobody where nobody does, and is not told twice", async () => {
  const { early, answers } = bench();
  void early.begin(file, 10).catch(() => undefined);
  void early.begin({ type: "index", name: "unasked" }, 10);
  answers[0]?.reject(new Error("away"));
  answers[1]?.reject(new Error("away, too"));
  await new Promise(setImmediate);
  await expect(early.readAll(file, 10)).rejects.toThrow("away");
  const again = early.readAll(file, 10);
  answers[2]?.resolve(Buffer.from("back"));
  expect(String(await again)).toBe("back");
});

test("listings likewise", async () => {
  const { early, asked } = bench();
  expect(await early.beginList("index")).toEqual(["index1"]);
  expect(await early.list("index")).toEqual(["index1"]);
  expect(await early.list("index")).toEqual(["index2"]);
  expect(asked).toEqual(["index", "index"]);
});
