import { beforeEach, expect, test } from "@jest/globals";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { mayPass, RepositoryError, type RepositoryErrorCode } from "../repository/errors.ts";
import { RepositoryReader } from "./repository-reader.ts";

function fail(code: RepositoryErrorCode): never {
  throw new RepositoryError(code, `it is ${code}`);
}

let missed = 0;
beforeEach(() => {
  missed = 0;
});

function reader(readBlob: () => Promise<Buffer>, refreshIndex: () => Promise<void>, clock = new ManualClock()) {
  return new RepositoryReader({ readBlob, refreshIndex }, clock, () => void missed++);
}

test("a pack that a prune replaced is found through a new index", async () => {
  let reloads = 0;
  const subject = reader(
    async () => (reloads === 0 ? fail("REPOSITORY_PACK_MISSING") : Buffer.from("x")),
    async () => void reloads++,
  );
  expect(String(await subject.read("a"))).toBe("x");
  expect(reloads).toBe(1);
  expect(subject).toMatchObject({ reachable: true, message: "" });
  expect(missed).toBe(0);
});

test("a repository whose index is gone too is away, not damaged", async () => {
  let there = false;
  const subject = reader(
    async () => (there ? Buffer.from("x") : fail("REPOSITORY_PACK_MISSING")),
    async () => (there ? undefined : fail("REPOSITORY_OBJECT_MISSING")),
  );
  const error = await subject.read("a").catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
  expect(mayPass(error)).toBe(true);
  expect(subject.reachable).toBe(false);
  expect(subject.message).toContain("REPOSITORY_OBJECT_MISSING");
  expect(missed).toBe(0);
  there = true;
  await subject.read("a");
  expect(subject).toMatchObject({ reachable: true, message: "" });
});

test.each(["REPOSITORY_BLOB_DAMAGED", "REPOSITORY_PACK_MISSING", "REPOSITORY_BLOB_UNKNOWN"] as const)(
  "%s is final when the index was read anew, and is told",
  async (code) => {
    const subject = reader(
      async () => fail(code),
      async () => undefined,
    );
    const error = await subject.read("a").catch((thrown: unknown) => thrown);
    expect(mayPass(error)).toBe(false);
    expect(subject).toMatchObject({ reachable: true, message: `it is ${code}` });
    // What is damaged was not deleted by anybody.
    expect(missed).toBe(code === "REPOSITORY_BLOB_DAMAGED" ? 0 : 1);
  },
);

test("many failing reads share one reload, and do not reload again at once", async () => {
  let reloads = 0;
  const clock = new ManualClock();
  const subject = reader(
    async () => fail("REPOSITORY_BLOB_UNKNOWN"),
    async () => {
      reloads++;
      await new Promise(setImmediate);
    },
    clock,
  );
  const all = await Promise.allSettled(["a", "b", "c"].map((id) => subject.read(id)));
  expect(all.every(({ status }) => status === "rejected")).toBe(true);
  expect(reloads).toBe(1);
  await subject.read("a").catch(() => undefined);
  expect(reloads).toBe(1);
  await clock.advance(3000);
  await subject.read("a").catch(() => undefined);
  expect(reloads).toBe(2);
});

test("a damaged blob is told of until it can be read again, whatever else happens", async () => {
  const broken = new Map<string, RepositoryErrorCode>([["a", "REPOSITORY_BLOB_DAMAGED"]]);
  const subject = new RepositoryReader(
    {
      async readBlob(id) {
        const code = broken.get(id);
        return code === undefined ? Buffer.from("x") : fail(code);
      },
      refreshIndex: async () => undefined,
    },
    new ManualClock(),
  );
  await subject.read("a").catch(() => undefined);
  await subject.read("b");
  expect(subject).toMatchObject({ reachable: true, message: "it is REPOSITORY_BLOB_DAMAGED" });
  broken.set("b", "REPOSITORY_UNREACHABLE");
  await subject.read("b").catch(() => undefined);
  expect(subject).toMatchObject({ reachable: false, message: "it is REPOSITORY_UNREACHABLE" });
  broken.delete("b");
  await subject.read("b");
  expect(subject).toMatchObject({ reachable: true, message: "it is REPOSITORY_BLOB_DAMAGED" });
  broken.delete("a");
  await subject.read("a");
  expect(subject).toMatchObject({ reachable: true, message: "" });
});
