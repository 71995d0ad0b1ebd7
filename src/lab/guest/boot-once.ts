import { setTimeout as delay } from "node:timers/promises";
import type { Accelerator, MachineSpec } from "../hypervisor/machine.ts";
import { QemuProcess } from "../hypervisor/qemu-process.ts";
import { GuestImageError } from "./disk-layout.ts";

/** Emulation on two shared cores needs 20–60 s for the Debian guest. */
const BOOT_LIMIT_MS = 5 * 60_000;
const SHUTDOWN_LIMIT_MS = 2 * 60_000;
const MEMORY_BYTES = 768 * 2 ** 20;

interface BootOptions {
  readonly disk: string;
  readonly accelerator: Accelerator;
  /** Where the serial console's output goes. */
  readonly console: string;
  readonly signal: AbortSignal;
}

/** What one boot showed. */
interface BootReport {
  /** The guest's page. */
  readonly page: string;
  /** From power-on until the page was there. */
  readonly millisecondsToPage: number;
}

/** Boots a guest's disk until it serves its page, then shuts it down through its agent and waits until it is off. */
export async function bootOnce({ disk, accelerator, console, signal }: BootOptions): Promise<BootReport> {
  const start = performance.now();
  const qemu = await QemuProcess.start(machine(disk, accelerator), { console, onEvent: () => undefined });
  const stop = AbortSignal.any([signal, AbortSignal.timeout(BOOT_LIMIT_MS)]);
  try {
    const page = await waitForPage(await forwardedPort(qemu), stop);
    const millisecondsToPage = performance.now() - start;
    await waitForAgent(qemu, stop);
    await qemu.agent.tell("guest-shutdown");
    const off = await Promise.race([qemu.exited, delay(SHUTDOWN_LIMIT_MS, undefined, { signal: stop, ref: false })]);
    if (off === undefined) throw new GuestImageError("the guest did not shut down when told to");
    return { page, millisecondsToPage };
  } catch (cause) {
    if (cause instanceof GuestImageError) throw cause;
    throw new GuestImageError("the new guest did not come up", { cause });
  } finally {
    await qemu.kill();
  }
}

function machine(disk: string, accelerator: Accelerator): MachineSpec {
  return {
    ...{ name: "first-boot", chipset: "q35", accelerator, cpus: 1, memoryBytes: MEMORY_BYTES, firmware: {} },
    disks: [
      {
        ...{
          name: "root",
          bus: "virtio",
          source: { kind: "file", path: disk },
          isCdrom: false,
          readOnly: false,
          direct: false,
        },
        ...{ writeThrough: false, errorPolicy: "report", bootOrder: 1, serial: undefined },
      },
    ],
    interfaces: [
      {
        model: "virtio",
        mac: undefined,
        isolated: false,
        forwards: [{ address: "127.0.0.1", hostPort: 0, guestPort: 80 }],
      },
    ],
    hasRandomSource: true,
  };
}

/** The host's port that leads to the guest's port 80: QEMU let the system choose it and says which it is only here. */
async function forwardedPort(qemu: QemuProcess): Promise<number> {
  const text = await qemu.qmp.execute("human-monitor-command", { "command-line": "info usernet" });
  const port = /TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)/.exec(String(text))?.[1];
  if (port === undefined) throw new GuestImageError("QEMU names no forwarded port");
  return Number(port);
}

async function waitForPage(port: number, signal: AbortSignal): Promise<string> {
  for (;;) {
    signal.throwIfAborted();
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(5_000)]);
      const response = await fetch(`http://127.0.0.1:${port}/`, { signal: limit });
      if (response.ok) return await response.text();
    } catch {
      // Not up yet: QEMU accepts connections long before the guest does.
    }
    await delay(200, undefined, { signal });
  }
}

async function waitForAgent(qemu: QemuProcess, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      await qemu.agent.execute("guest-ping", 5_000);
      return;
    } catch {
      await delay(500, undefined, { signal });
    }
  }
}
