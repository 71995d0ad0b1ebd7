import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { MachineSpec } from "./machine.ts";
import { QemuProcess } from "./qemu-process.ts";

const EMPTY: MachineSpec = {
  ...{ name: "empty", chipset: "q35", accelerator: "tcg", cpus: 1, memoryBytes: 64 << 20, firmware: {} },
  ...{ disks: [], interfaces: [], hasRandomSource: false },
};

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "qemu-process-"));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  return status !== undefined && !/\) Z /.test(status);
}

test("QEMU answers, and is gone after a kill", async () => {
  const qemu = await QemuProcess.start(EMPTY, { console: join(directory, "console"), onEvent: () => undefined });
  expect(await qemu.qmp.execute("query-status")).toMatchObject({ status: "running" });
  await expect(qemu.qmp.execute("no-such-command")).rejects.toMatchObject({ code: "QMP_COMMAND_FAILED" });
  await qemu.kill();
  expect(await qemu.exited).toMatchObject({ signal: "SIGKILL" });
  expect(await isAlive(qemu.pid)).toBe(false);
});

test("what QEMU complains about is in the error", async () => {
  const machine: MachineSpec = { ...EMPTY, firmware: { uuid: "no uuid" } };
  const start = QemuProcess.start(machine, { console: join(directory, "console"), onEvent: () => undefined });
  await expect(start).rejects.toMatchObject({ code: "QEMU_START_FAILED", message: expect.stringContaining("UUID") });
});

test("QEMU does not outlive the process that started it, even one that is killed", async () => {
  const source = `
    const { QemuProcess } = await import(${JSON.stringify(new URL("./qemu-process.ts", import.meta.url).href)});
    const machine = ${JSON.stringify(EMPTY)};
    const qemu = await QemuProcess.start(machine, { console: ${JSON.stringify(join(directory, "console"))}, onEvent() {} });
    process.stdout.write(qemu.pid + "\\n");
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ["--input-type=module", "--eval", source], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_OPTIONS: "", TMPDIR: directory },
  });
  const [line] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(line.toString());
  expect(await isAlive(pid)).toBe(true);
  parent.kill("SIGKILL");
  await once(parent, "close");
  for (let look = 0; look < 200 && (await isAlive(pid)); look++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await isAlive(pid)).toBe(false);
});
