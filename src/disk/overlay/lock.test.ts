import { spawn } from "node:child_process";
import { once } from "node:events";
import { link, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "@jest/globals";
import { deferred } from "../../base/deferred.ts";
import { lockDirectory } from "./lock.ts";

test("one process at a time, and a killed one leaves nothing behind", async () => {
  const directory = await mkdtemp(join(tmpdir(), `lock-${"long-".repeat(20)}`));
  try {
    const module = new URL("./lock.ts", import.meta.url).href;
    const script = `const { lockDirectory } = await import(${JSON.stringify(module)}); await lockDirectory(${JSON.stringify(directory)}); process.stdout.write("held"); setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, NODE_OPTIONS: "" },
    });
    await once(holder.stdout, "data");
    await expect(lockDirectory(directory)).rejects.toMatchObject({ code: "OVERLAY_LOCKED" });
    holder.kill("SIGKILL");
    await once(holder, "close");
    const release = await lockDirectory(directory);
    await expect(lockDirectory(directory)).rejects.toMatchObject({ code: "OVERLAY_LOCKED" });
    await release();
    await (await lockDirectory(directory))();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

/** What a killed process leaves: a socket that nobody listens on. */
async function leaveDead(directory: string): Promise<void> {
  const socket = join(directory, "lock.sock");
  await rm(socket, { force: true });
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(`${socket}.bound`, resolve));
  await link(`${socket}.bound`, socket);
  await new Promise((resolve) => dead.close(resolve));
}

/** One that takes the lock step by step, as it is let. */
class Taker {
  readonly outcome: Promise<PromiseSettledResult<() => Promise<void>>>;
  #isDone = false;
  #next = deferred();
  #arrived = deferred();

  constructor(directory: string) {
    const taking = lockDirectory(directory, async () => {
      this.#arrived.resolve();
      await this.#next.promise;
    });
    this.outcome = Promise.allSettled([taking]).then(([outcome]) => {
      this.#isDone = true;
      this.#arrived.resolve();
      return outcome;
    });
  }

  /** Lets it take so many steps, or all that are left; resolves when it stands still again. */
  async go(steps = Number.POSITIVE_INFINITY): Promise<void> {
    await this.#arrived.promise;
    for (let step = 0; step < steps && !this.#isDone; step++) {
      const next = this.#next;
      [this.#next, this.#arrived] = [deferred(), deferred()];
      next.resolve();
      await this.#arrived.promise;
    }
  }
}

test("of three that come between one another's steps, one at most holds a dead one's lock", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lock-"));
  try {
    const schedules = Array.from({ length: 9 }, (_, first) =>
      [undefined, 4, 6].flatMap((between) => [1, 2].map((second) => ({ first, between, second }))),
    ).flat();
    const held: number[] = [];
    for (const { first, between, second } of schedules) {
      await leaveDead(directory);
      const [a, b, c] = [new Taker(directory), new Taker(directory), new Taker(directory)];
      await b.go(first);
      // To its end, or not quite.
      await a.go(between);
      await b.go(second);
      for (let round = 0; round < 80; round++) for (const taker of [c, a, b]) await taker.go(3);
      let count = 0;
      for (const outcome of await Promise.all([a.outcome, b.outcome, c.outcome])) {
        if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "OVERLAY_LOCKED" });
        else {
          count++;
          await expect(lockDirectory(directory)).rejects.toMatchObject({ code: "OVERLAY_LOCKED" });
          await outcome.value();
        }
      }
      expect(await readdir(directory)).toEqual([]);
      held.push(count);
    }
    expect(held).toEqual(schedules.map(() => 1));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("what takers left that were killed meanwhile is removed, and keeps nobody out", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lock-"));
  try {
    for (const name of ["lock.sock.0", "lock.sock.z", "lock.sock.z.new"]) {
      await leaveDead(directory);
      await rename(join(directory, "lock.sock"), join(directory, name));
    }
    const release = await lockDirectory(directory);
    expect(await readdir(directory)).toEqual(["lock.sock"]);
    await release();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("of two that find a dead one's lock at the same moment, one gets it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lock-"));
  try {
    for (let round = 0; round < 120; round++) {
      await leaveDead(directory);
      const first = lockDirectory(directory);
      first.catch(() => undefined);
      for (let moment = 0; moment < round % 12; moment++) await turn();
      const outcomes = await Promise.allSettled([first, lockDirectory(directory)]);
      const held = outcomes.filter((outcome) => outcome.status === "fulfilled");
      expect(held).toHaveLength(1);
      await expect(lockDirectory(directory)).rejects.toMatchObject({ code: "OVERLAY_LOCKED" });
      for (const { value: release } of held) await release();
    }
    expect(await readdir(directory)).toEqual([]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
