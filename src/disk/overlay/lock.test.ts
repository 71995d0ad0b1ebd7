import { spawn } from "node:child_process";
import { once } from "node:events";
import { link, mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "@jest/globals";
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

test("of two that find a dead one's lock at the same moment, one gets it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lock-"));
  try {
    for (let round = 0; round < 120; round++) {
      // What a killed process leaves: a socket that nobody listens on.
      const socket = join(directory, "lock.sock");
      await rm(socket, { force: true });
      const dead = createServer();
      await new Promise<void>((resolve) => dead.listen(`${socket}.bound`, resolve));
      await link(`${socket}.bound`, socket);
      await new Promise((resolve) => dead.close(resolve));
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
