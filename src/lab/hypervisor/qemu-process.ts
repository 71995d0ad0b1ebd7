import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HypervisorError } from "./errors.ts";
import { GuestAgent } from "./guest-agent.ts";
import type { MachineSpec } from "./machine.ts";
import { qemuArguments } from "./qemu-arguments.ts";
import { QmpClient, type QmpEvent } from "./qmp.ts";

const START_LIMIT_MS = 60_000;
/** Stopped until it is told to go on: its disks are still written by the other QEMU when the guest's memory is here. */
const INCOMING = ["-S", "-incoming", "defer"];

interface StartOptions {
  /** The serial console's output is appended to this file. */
  readonly console: string;
  readonly onEvent: (event: QmpEvent) => void;
  /** It waits for another QEMU to hand a running guest over, instead of booting one. */
  readonly incoming?: boolean;
}

export interface QemuExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what QEMU wrote to standard error. */
  readonly complaint: string;
}

/** A running QEMU. It dies with this process, however that ends: the kernel is told so (prctl's PR_SET_PDEATHSIG). */
export class QemuProcess {
  readonly qmp: QmpClient;
  readonly agent: GuestAgent;
  /** Resolves when QEMU has ended; never rejects. */
  readonly exited: Promise<QemuExit>;
  readonly pid: number;
  /** For more sockets of this QEMU; goes with it. */
  readonly directory: string;
  readonly #child: ChildProcess;

  private constructor(
    child: ChildProcess,
    directory: string,
    exited: Promise<QemuExit>,
    qmp: QmpClient,
    agent: GuestAgent,
  ) {
    this.#child = child;
    this.directory = directory;
    this.pid = child.pid ?? 0;
    this.exited = exited;
    this.qmp = qmp;
    this.agent = agent;
  }

  /** Resolves once QEMU answers on its control socket; the guest has then begun to boot, where it is not to come in. */
  static async start(machine: MachineSpec, options: StartOptions): Promise<QemuProcess> {
    // The temporary directory and not the lab's: a UNIX socket's path is limited to 107 bytes.
    const sockets = await mkdtemp(join(tmpdir(), "qemu-"));
    const paths = { qmp: join(sockets, "qmp"), agent: join(sockets, "agent"), console: options.console };
    const program = ["--pdeathsig", "KILL", "qemu-system-x86_64"];
    const child = spawn(
      "setpriv",
      [...program, ...qemuArguments(machine, paths), ...(options.incoming === true ? INCOMING : [])],
      {
        stdio: ["ignore", "ignore", "pipe"],
        detached: true,
      },
    );
    const exited = watchExit(child, sockets);
    try {
      const qmp = await connectWhenListening(paths.qmp, options.onEvent, exited);
      return new QemuProcess(child, sockets, exited, qmp, new GuestAgent(paths.agent));
    } catch (error) {
      child.kill("SIGKILL");
      await exited;
      throw error;
    }
  }

  /** Presses the power button (ACPI). */
  async powerDown(): Promise<void> {
    await this.qmp.execute("system_powerdown");
  }

  /** Ends QEMU at once, as if the cord were pulled. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited;
  }
}

function watchExit(child: ChildProcess, sockets: string): Promise<QemuExit> {
  let complaint = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-4096);
  });
  return new Promise<QemuExit>((resolve) => {
    child.once("error", (error) => resolve({ code: 127, signal: null, complaint: error.message }));
    child.once("close", (code, signal) => resolve({ code, signal, complaint: complaint.trim() }));
  }).finally(() => rm(sockets, { recursive: true, force: true }));
}

async function connectWhenListening(
  path: string,
  onEvent: (event: QmpEvent) => void,
  exited: Promise<QemuExit>,
): Promise<QmpClient> {
  let exit: QemuExit | undefined;
  exited.then((value) => {
    exit = value;
  });
  const deadline = performance.now() + START_LIMIT_MS;
  while (exit === undefined && performance.now() < deadline) {
    if (existsSync(path)) {
      const client = await QmpClient.connect(path, onEvent).catch(() => undefined);
      if (client !== undefined) return client;
    }
    await delay(20);
  }
  throw new HypervisorError("QEMU_START_FAILED", `QEMU did not start: ${exit?.complaint ?? "no answer in time"}`);
}
