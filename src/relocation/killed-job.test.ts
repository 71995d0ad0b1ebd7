import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { AGENT_PORTS } from "../api/agent-config.ts";
import { testAuthority } from "../base/testing/certificates.ts";
import { AgentModel, ModelDisk } from "./testing/agent-model.ts";

const MIB = 1024 * 1024;
const SIZE = 24 * MIB;
/** The command line knows the agent's ports only, so the model has an address of its own. */
const ADDRESS = `127.83.${randomInt(1, 255)}.${randomInt(1, 255)}`;
const COMMAND = join(import.meta.dirname, "../cli/main.ts");

test("the command, killed again and again, ends with every byte at the target", async () => {
  const scratch = await mkdtemp(join(tmpdir(), "killed-job-"));
  const authority = await testAuthority();
  const content = randomBytes(SIZE);
  content.fill(0, 4 * MIB, 10 * MIB);
  const disk = new ModelDisk("root", content);
  disk.beforeRead = () => new Promise((resolve) => setTimeout(resolve, 10));
  const at = { address: ADDRESS, controlPort: AGENT_PORTS.control, nbdPort: AGENT_PORTS.nbd };
  const agent = await AgentModel.start(authority, [disk], at);
  let job: ChildProcess | undefined;
  const writer = setInterval(() => {
    disk.guestWrite(randomInt(SIZE - 20_000), randomInt(3) === 0 ? Buffer.alloc(9000) : randomBytes(9000));
  }, 10);
  try {
    await mkdir(join(scratch, "tls"));
    await mkdir(join(scratch, "target"));
    const files = { "tls.crt": agent.job.cert, "tls.key": agent.job.key, "ca.crt": agent.job.ca };
    for (const [name, text] of Object.entries(files)) await writeFile(join(scratch, "tls", name), text);
    const start = (): ChildProcess => {
      const options = ["--agent", ADDRESS, "--tls-dir", join(scratch, "tls"), "--verify"];
      return spawn(process.execPath, [COMMAND, "relocate", ...options, "--disk", `root=${join(scratch, "target")}`], {
        stdio: ["ignore", "ignore", "pipe"],
        env: { PATH: process.env.PATH, VMRESTORE_LOG_LEVEL: "warn" },
      });
    };
    for (let kill = 0; kill < 3; kill++) {
      job = start();
      const told = disk.told.length;
      // Some way into its work, wherever that is.
      while (disk.told.length === told && job.exitCode === null)
        await new Promise((resolve) => setTimeout(resolve, 10));
      await new Promise((resolve) => setTimeout(resolve, randomInt(0, 1000)));
      if (kill === 2) disk.seal();
      job.kill("SIGKILL");
      await once(job, "exit");
    }
    job = start();
    const errors: string[] = [];
    job.stderr?.on("data", (piece: Buffer) => errors.push(piece.toString()));
    const [exitCode] = await once(job, "exit");
    expect({ exitCode, errors: errors.join("") }).toEqual({ exitCode: 0, errors: "" });
    expect((await readFile(join(scratch, "target/disk.img"))).equals(disk.content)).toBe(true);
    expect(disk.progress?.state).toBe("Done");
  } finally {
    clearInterval(writer);
    job?.kill("SIGKILL");
    await agent.kill();
    await rm(scratch, { recursive: true, force: true });
  }
}, 180_000);

test("the command says what is wrong, and fails", async () => {
  const scratch = await mkdtemp(join(tmpdir(), "killed-job-"));
  const authority = await testAuthority();
  const disk = new ModelDisk("root", randomBytes(MIB));
  const agent = await AgentModel.start(authority, [disk], {
    address: ADDRESS,
    controlPort: AGENT_PORTS.control,
    nbdPort: AGENT_PORTS.nbd,
  });
  try {
    const files = { "tls.crt": agent.job.cert, "tls.key": agent.job.key, "ca.crt": agent.job.ca };
    for (const [name, text] of Object.entries(files)) await writeFile(join(scratch, name), text);
    await writeFile(join(scratch, "small"), randomBytes(1000));
    const job = spawn(
      process.execPath,
      [COMMAND, "relocate", "--agent", ADDRESS, "--tls-dir", scratch, "--disk", `root=${join(scratch, "small")}`],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    const errors: string[] = [];
    job.stderr.on("data", (piece: Buffer) => errors.push(piece.toString()));
    const [exitCode] = await once(job, "exit");
    expect(exitCode).toBe(1);
    expect(errors.join("")).toMatch(/smaller than the disk of 1048576 bytes \(RELOCATION_TARGET_UNFIT\)/);
    expect(errors.join("")).not.toContain("PRIVATE KEY");
  } finally {
    await agent.kill();
    await rm(scratch, { recursive: true, force: true });
  }
});
