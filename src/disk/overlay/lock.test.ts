import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
