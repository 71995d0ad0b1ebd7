import { expect, test } from "@jest/globals";
import type { Repository } from "../repository/repository.ts";
import { EarlyOpening } from "./early-opening.ts";

function repository(): { closed: number } & Repository {
  const fake = {
    closed: 0,
    async close(): Promise<void> {
      fake.closed++;
    },
  };
  return fake as unknown as { closed: number } & Repository;
}

test("the first to take it has it; the next one begins anew", async () => {
  const opened = repository();
  const early = new EarlyOpening(async () => opened);
  expect(await early.take()).toBe(opened);
  expect(early.take()).toBeUndefined();
  early.close();
  await new Promise(setImmediate);
  expect(opened.closed).toBe(0);
});

test("what nobody took is closed, also where it opens later", async () => {
  const opened = repository();
  const { promise, resolve } = Promise.withResolvers<Repository>();
  const early = new EarlyOpening(() => promise);
  early.close();
  resolve(opened);
  await new Promise(setImmediate);
  expect(opened.closed).toBe(1);
});

test("a failure reaches whoever takes it, and nobody else", async () => {
  const failing = (): EarlyOpening =>
    new EarlyOpening(async () => {
      throw new Error("away");
    });
  failing().close();
  await new Promise(setImmediate);
  await expect(failing().take()).rejects.toThrow("away");
});

test("tells when the key is being derived", async () => {
  const { promise, resolve } = Promise.withResolvers<Repository>();
  let begin = (): void => undefined;
  const early = new EarlyOpening((onDeriving) => {
    begin = onDeriving;
    return promise;
  });
  let isDeriving = false;
  const told = early.deriving.then(() => {
    isDeriving = true;
  });
  await new Promise(setImmediate);
  expect(isDeriving).toBe(false);
  begin();
  await told;
  resolve(repository());
});

test("nobody waits for a key that will not be derived", async () => {
  const failed = new EarlyOpening(async () => {
    throw new Error("away");
  });
  await failed.deriving;
  await new EarlyOpening(async () => repository()).deriving;
});
