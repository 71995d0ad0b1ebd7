import { execFile, spawn } from "node:child_process";
import { chmod, copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

interface UmlRun {
  /**
   * Shell script; the export is mounted at /run/mnt, and $UML_DIR/exerciser is there. A line `KILL-SERVER` on the console kills the
   * server, `HANG-SERVER` stops it and kills it 2 s later, when much waits for it, `END-SERVER` asks it to end (SIGTERM). It comes
   * back 2 s after it ended, and a line `SERVER-ENDED` says how it did. After `SWAP-SERVER` `otherServer` has its place for 2 s.
   */
  readonly script: string;
  readonly exportPath: string;
  /** Command that serves the export on 10.77.0.1:2049. */
  readonly server: readonly string[];
  readonly otherServer?: readonly string[];
  /** Commands that run beside the server all the time, on the same machine as it were. */
  readonly beside?: readonly (readonly string[])[];
  /** Further mount options. */
  readonly mountOptions?: string;
  /** Milliseconds for all of it; 170,000 unless given. */
  readonly limitMs?: number;
}

const LIMIT_MS = 170_000;

/**
 * User-mode Linux could not lay a process's memory anew, and killed it (arch/um/kernel/tlb.c; seen on a busy machine): that says
 * nothing of what is tested.
 */
export class UmlFault extends Error {}
const compile = promisify(execFile);

/**
 * Runs a script on a real Linux kernel, started as a user-mode Linux in a network namespace of its own, with an NFS export mounted.
 * Needs root, or unprivileged user namespaces.
 *
 * @returns the console; throws with it where the script fails
 * @throws UmlFault
 */
export async function runInUml(run: UmlRun): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "uml-"));
  try {
    await copyFile(join(import.meta.dirname, "guest-init.sh"), join(directory, "init.sh"));
    await chmod(join(directory, "init.sh"), 0o755);
    await writeFile(join(directory, "script.sh"), run.script);
    const preload = join(directory, "whole-xstate.so");
    const source = (name: string): string => join(import.meta.dirname, name);
    await compile("gcc", ["-O2", "-shared", "-fPIC", "-o", preload, source("whole-xstate.c"), "-ldl"]);
    await compile("gcc", ["-O2", "-o", join(directory, "exerciser"), source("exerciser.c")]);
    const options = {
      directory,
      preload,
      exportPath: run.exportPath,
      mountOptions: run.mountOptions ?? "",
      server: run.server,
      otherServer: run.otherServer ?? [],
      beside: run.beside ?? [],
      limitMs: run.limitMs ?? LIMIT_MS,
    };
    const namespace = process.getuid?.() === 0 ? ["--net"] : ["--net", "--map-root-user"];
    const child = spawn(
      "unshare",
      [
        ...namespace,
        "--kill-child=KILL",
        "--pid",
        "--fork",
        process.execPath,
        join(import.meta.dirname, "host.ts"),
        JSON.stringify(options),
      ],
      { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NODE_OPTIONS: "" } },
    );
    let console = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        console += text;
      });
    }
    const code = await new Promise((resolve) => child.once("close", resolve));
    if (/^Failed to flush page for address/m.test(console)) {
      throw new UmlFault(`user-mode Linux has killed one of its programs:\n${console.slice(-6000)}`);
    }
    if (code !== 0) throw new Error(`the script failed in user-mode Linux:\n${console.slice(-6000)}`);
    return console;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
