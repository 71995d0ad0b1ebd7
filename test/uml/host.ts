import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";

/**
 * Runs within a network namespace of its own: makes the tap device, runs the server and the user-mode Linux beside it, and kills
 * and restarts the server, or puts another in its place for a while, whenever the guest says so. Ends with 0 when the guest's
 * script succeeded, and no server ended unasked.
 */
interface HostOptions {
  readonly directory: string;
  /** Shared object that linux.uml needs on new processors. */
  readonly preload: string;
  readonly exportPath: string;
  readonly mountOptions: string;
  /** Command that serves NFS on 10.77.0.1:2049. */
  readonly server: readonly string[];
  /** Another command for the same address. */
  readonly otherServer: readonly string[];
  /** Commands that run beside it all the time. */
  readonly beside: readonly (readonly string[])[];
  readonly limitMs: number;
}

const options = JSON.parse(process.argv[2] ?? "{}") as HostOptions;
const DOWN_MS = 2000;

const ip = (...args: string[]): void => void execFileSync("ip", args);
ip("link", "set", "lo", "up");
ip("tuntap", "add", "tap0", "mode", "tap");
ip("address", "add", "10.77.0.1/24", "dev", "tap0");
ip("link", "set", "tap0", "up");

function run([program = "", ...args]: readonly string[]): ChildProcess {
  return spawn(program, args, { stdio: ["ignore", "inherit", "inherit"] });
}

let diedOf: string | undefined;
const asked = new WeakSet<ChildProcess>();

function startServer(command = options.server): ChildProcess {
  const started = run(command);
  started.once("exit", (code, signal) => {
    if (asked.has(started)) return;
    diedOf = `the server ended by itself: ${code ?? signal}`;
    stopUml();
  });
  return started;
}

/** Resolves with its exit code, or the name of the signal that ended it. */
async function endServer(signal: "SIGTERM" | "SIGKILL"): Promise<number | string | null> {
  asked.add(server);
  const ended = once(server, "exit");
  server.kill(signal);
  await ended;
  return server.exitCode ?? server.signalCode;
}

const beside = options.beside.map(run);
let server = startServer();
await delay(500);
const uml = spawn(
  "linux.uml",
  [
    "mem=320M",
    "root=/dev/root",
    "rootfstype=hostfs",
    "rootflags=/",
    "ro",
    "quiet",
    `init=${options.directory}/init.sh`,
    "vec0:transport=tap,ifname=tap0,depth=128,gro=1",
    "con=null",
    "con0=null,fd:1",
    `uml_dir=${options.directory}`,
    `uml_export=${options.exportPath}`,
    ...(options.mountOptions === "" ? [] : [`uml_options=${options.mountOptions}`]),
  ],
  {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, TMPDIR: "/dev/shm", LD_PRELOAD: options.preload },
    detached: true,
  },
);
function stopUml(): void {
  try {
    process.kill(-(uml.pid ?? 0), "SIGKILL");
  } catch {
    // it is gone already
  }
}
setTimeout(stopUml, options.limitMs).unref();

let result = "never said how it ended";
for await (const line of createInterface({ input: uml.stdout })) {
  process.stdout.write(`${line}\n`);
  const said = /UML-RESULT: (.*)/.exec(line)?.[1];
  if (said !== undefined) {
    result = said.trim();
    break;
  }
  for (const [word, signal] of [
    ["KILL-SERVER", "SIGKILL"],
    ["HANG-SERVER", "SIGKILL"],
    ["END-SERVER", "SIGTERM"],
  ] as const) {
    if (!line.includes(word)) continue;
    if (word === "HANG-SERVER") {
      server.kill("SIGSTOP");
      await delay(DOWN_MS);
    }
    process.stdout.write(`SERVER-ENDED ${await endServer(signal)}\n`);
    await delay(DOWN_MS);
    server = startServer();
  }
  if (line.includes("SWAP-SERVER")) {
    for (const command of [options.otherServer, options.server]) {
      await endServer("SIGKILL");
      server = startServer(command);
      await delay(DOWN_MS);
    }
  }
}
stopUml();
await endServer("SIGKILL");
for (const child of beside) child.kill("SIGKILL");
if (diedOf !== undefined) result = diedOf;
process.stdout.write(`host: ${result}\n`);
process.exit(result === "ok" ? 0 : 1);
