import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import { HypervisorError } from "./errors.ts";
import { moveGuest } from "./live-move.ts";
import type { MachineSpec } from "./machine.ts";
import { diskNode } from "./qemu-arguments.ts";
import { type QemuExit, QemuProcess } from "./qemu-process.ts";
import type { QmpEvent } from "./qmp.ts";

const PING_EVERY_MS = 1000;
const PING_LIMIT_MS = 5000;
/** As KubeVirt retries a machine that an I/O error stopped: soon, then ever more seldom. */
const RESUME_MS = { first: 1000, most: 30_000 };

interface BlockNode {
  readonly "node-name": string;
  readonly image: { readonly "virtual-size": number };
}

interface RunningMachineOptions {
  readonly spec: MachineSpec;
  readonly console: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Something that shows in the status is another than before. */
  readonly onChange: () => void;
  /** It waits for a running guest to come from another machine. */
  readonly incoming?: boolean;
}

/** A started machine, with what is known of its guest. */
export class RunningMachine {
  readonly #options: RunningMachineOptions;
  readonly #over = new AbortController();
  #qemu: QemuProcess | undefined;
  #exit: QemuExit | undefined;
  #paused: "PausedIOError" | "PausedByUser" | undefined;
  #sawIoError = false;
  #agent: "absent" | "waiting" | "connected" = "absent";
  #osInfo: Record<string, unknown> | undefined;
  #stopBy: number | undefined;
  #resumeMs = RESUME_MS.first;
  #isMoving = false;

  private constructor(options: RunningMachineOptions) {
    this.#options = options;
  }

  static async start(options: RunningMachineOptions): Promise<RunningMachine> {
    const machine = new RunningMachine(options);
    const qemu = await QemuProcess.start(options.spec, {
      console: options.console,
      onEvent: (event) => machine.#onEvent(event),
      incoming: options.incoming === true,
    });
    machine.#qemu = qemu;
    void qemu.exited.then((exit) => {
      machine.#exit = exit;
      machine.#over.abort();
      qemu.agent.close();
      options.onChange();
    });
    return machine;
  }

  /**
   * Hands the guest over to a machine that waits for one, with the disks of these indexes; the others are shared. See `moveGuest`.
   *
   * @returns for how many milliseconds the guest ran nowhere
   */
  async moveTo(
    target: RunningMachine,
    disks: readonly number[],
    how: { readonly signal: AbortSignal; readonly bandwidth?: number | undefined; readonly onHandOver: () => void },
  ): Promise<number> {
    const [here, there] = [this.#qemu, target.#qemu];
    if (here === undefined || there === undefined) throw new HypervisorError("QEMU_UNREACHABLE", "a machine has ended");
    this.#isMoving = true;
    try {
      const moved = await moveGuest({ source: here, target: there, nodes: disks.map(diskNode), ...how });
      return moved.pauseMs;
    } finally {
      this.#isMoving = false;
    }
  }

  /** Bytes of each disk as the guest sees it, in the order of the machine's disks. */
  async diskSizes(): Promise<number[]> {
    const nodes = (await this.#qemu?.qmp.execute("query-named-block-nodes", { flat: true })) as BlockNode[] | undefined;
    const sizes = new Map(nodes?.map(({ "node-name": name, image }) => [name, image["virtual-size"]]));
    return this.#options.spec.disks.map((_, index) => sizes.get(diskNode(index)) ?? 0);
  }

  get pid(): number | undefined {
    return this.#qemu?.pid;
  }

  /** How QEMU ended, once it has. Code 0: the guest switched itself off. */
  get exit(): QemuExit | undefined {
    return this.#exit;
  }

  get paused(): "PausedIOError" | "PausedByUser" | undefined {
    return this.#paused;
  }

  get agentConnected(): boolean {
    return this.#agent === "connected";
  }

  /** What the guest says of its operating system. */
  get osInfo(): Record<string, unknown> | undefined {
    return this.#osInfo;
  }

  /**
   * Asks the guest to shut down. May be called again and again: a guest that has just begun to boot does not hear it yet. The first
   * call says when its time is over (monotonic milliseconds).
   */
  async shutDown(deadline: number): Promise<void> {
    if (this.#exit !== undefined) return;
    this.#stopBy ??= deadline;
    // A stopped guest cannot react; KubeVirt resumes it for the shutdown as well.
    if (this.#paused !== undefined) await this.#qemu?.qmp.execute("cont").catch(() => undefined);
    if (this.agentConnected) await this.#qemu?.agent.tell("guest-shutdown").catch(() => undefined);
    await this.#qemu?.powerDown().catch(() => undefined);
  }

  /** Milliseconds that a shutdown under way may still take; 0 when its time is over, undefined where there is none. */
  timeLeft(): number | undefined {
    return this.#stopBy === undefined ? undefined : Math.max(0, this.#stopBy - this.#options.clock.monotonic());
  }

  async kill(): Promise<void> {
    await this.#qemu?.kill();
  }

  #onEvent({ event, data }: QmpEvent): void {
    // The guest is stopped for the moment in which it changes over.
    if (this.#isMoving && event === "STOP" && !this.#sawIoError) return;
    if (event === "BLOCK_IO_ERROR" && data.action === "stop") this.#sawIoError = true;
    else if (event === "STOP") this.#stopped();
    else if (event === "RESUME") this.#change(() => (this.#paused = undefined));
    else if (event === "VSERPORT_CHANGE" && data.id === "agent-port") this.#agentPort(data.open === true);
  }

  #stopped(): void {
    const isIoError = this.#sawIoError;
    this.#sawIoError = false;
    this.#change(() => (this.#paused = isIoError ? "PausedIOError" : "PausedByUser"));
    if (isIoError) void this.#resumeLater();
  }

  async #resumeLater(): Promise<void> {
    const { clock, logger } = this.#options;
    const delay = this.#resumeMs;
    this.#resumeMs = Math.min(RESUME_MS.most, delay * 2);
    logger.warn({ machine: this.#options.spec.name, retryMs: delay }, "the guest was stopped by an I/O error");
    try {
      await clock.sleep(delay, this.#over.signal);
      if (this.#paused !== "PausedIOError") return;
      await this.#qemu?.qmp.execute("cont");
      await clock.sleep(delay, this.#over.signal);
      if (this.#paused === undefined) this.#resumeMs = RESUME_MS.first;
    } catch (error) {
      if (!this.#over.signal.aborted) logger.warn({ error: errorMessage(error) }, "the guest was not resumed");
    }
  }

  #agentPort(isOpen: boolean): void {
    if (!isOpen) this.#change(() => (this.#agent = "absent"));
    else if (this.#agent === "absent") {
      this.#agent = "waiting";
      void this.#greetAgent();
    }
  }

  async #greetAgent(): Promise<void> {
    while (this.#agent === "waiting" && !this.#over.signal.aborted) {
      try {
        await this.#qemu?.agent.execute("guest-ping", PING_LIMIT_MS);
        if (this.#agent !== "waiting") return;
        this.#change(() => (this.#agent = "connected"));
        this.#osInfo = (await this.#qemu?.agent.execute("guest-get-osinfo", PING_LIMIT_MS)) as Record<string, unknown>;
        this.#options.onChange();
      } catch {
        await this.#options.clock.sleep(PING_EVERY_MS, this.#over.signal).catch(() => undefined);
      }
    }
  }

  #change(update: () => void): void {
    update();
    this.#options.onChange();
  }
}
