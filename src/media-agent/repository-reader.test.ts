import { beforeEach, expect, test } from "@jest/globals";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { isTransient, RepositoryError, type RepositoryErrorCode } from "../repository/errors.ts";
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
  expect(isTransient(error)).toBe(true);
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
    expect(isTransient(error)).toBe(false);
    expect(subject).toMatchObject({ reachable: true, message: `it is ${code}` });
    // What is damaged was not deleted by anybody.
    expect(missed).toBe(code === "REPOSITORY_BLOB_DAMAGED" ? 0 : 1);
  },
);

test("many failing reads share one reload, and those of damaged blobs do not reload again at once", async () => {
  let reloads = 0;
  const clock = new ManualClock();
  const subject = reader(
    async () => fail("REPOSITORY_BLOB_DAMAGED"),
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

/** A prune that comes just after somebody has looked at the index. */
class Pruned {
  #isPruned = false;
  #knows = false;
  #looking = 0;
  looks = 0;
  whileLooking: (() => void) | undefined;

  prune(): void {
    this.#isPruned = true;
  }

  async readBlob(id: string): Promise<Buffer> {
    if (id === "gone") fail("REPOSITORY_BLOB_UNKNOWN");
    return !this.#isPruned || this.#knows ? Buffer.from("x") : fail("REPOSITORY_PACK_MISSING");
  }

  async refreshIndex(): Promise<void> {
    this.looks++;
    expect(++this.#looking).toBe(1);
    const listed = this.#isPruned;
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    this.whileLooking?.();
    await new Promise(setImmediate);
    this.#knows = listed;
    this.#looking--;
  }
}

test("a pack that goes just after a look at the index is found by another look", async () => {
  const repository = new Pruned();
  const subject = new RepositoryReader(repository, new ManualClock(), () => void missed++);
  await subject.read("gone").catch(() => undefined);
  repository.prune();
  expect(String(await subject.read("a"))).toBe("x");
  expect(repository.looks).toBe(2);
  expect(missed).toBe(1);
});

test("a pack that goes during a look at the index is found by the next look, which all share", async () => {
  const repository = new Pruned();
  const subject = new RepositoryReader(repository, new ManualClock(), () => void missed++);
  const during: Promise<Buffer>[] = [];
  repository.whileLooking = () => {
    repository.whileLooking = undefined;
    repository.prune();
    during.push(...["a", "b", "c"].map((id) => subject.read(id)));
  };
  await subject.read("gone").catch(() => undefined);
  expect((await Promise.all(during)).map(String)).toEqual(["x", "x", "x"]);
  expect(repository.looks).toBe(2);
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

test("a blob that is waited for is told of until it comes, though all others do", async () => {
  const broken = new Map<string, RepositoryErrorCode>([["a", "REPOSITORY_FORBIDDEN"]]);
  const partly = new RepositoryReader(
    {
      async readBlob(id) {
        const code = broken.get(id);
        return code === undefined ? Buffer.from("x") : fail(code);
      },
      refreshIndex: async () => undefined,
    },
    new ManualClock(),
  );
  await partly.read("a").catch(() => undefined);
  await partly.read("b");
  expect(partly).toMatchObject({ reachable: false, message: "it is REPOSITORY_FORBIDDEN" });
  broken.set("a", "REPOSITORY_PACK_MISSING");
  await partly.read("a").catch(() => undefined);
  expect(partly).toMatchObject({ reachable: true, message: "it is REPOSITORY_PACK_MISSING" });
  broken.delete("a");
  await partly.read("a");
  expect(partly).toMatchObject({ reachable: true, message: "" });
});
