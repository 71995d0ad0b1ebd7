import { constants } from "node:fs";
import { access, copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Accelerator, MachineSpec } from "./machine.ts";
import { QemuProcess } from "./qemu-process.ts";

/** Emulation boots the tiny guest in 4–10 s on two shared cores; hardware that is worth using needs a fraction of that. */
const PROBE_LIMIT_MS = 20_000;

let chosen: Promise<Accelerator> | undefined;

/**
 * KVM where it really works and is faster than emulation, else TCG. A machine may offer `/dev/kvm` and yet fail at ordinary guest
 * code or be slower than emulation (nested and paravirtual KVM), so both boot the tiny guest, and the faster one wins. Measured
 * once per process, and not at all where `/dev/kvm` cannot be opened.
 *
 * @param tinyGuest a raw disk that says `TINY READY` on its console; it is not changed
 */
export function chooseAccelerator(tinyGuest: () => Promise<string>): Promise<Accelerator> {
  chosen ??= measure(tinyGuest);
  return chosen;
}

async function measure(tinyGuest: () => Promise<string>): Promise<Accelerator> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch {
    return "tcg";
  }
  const disk = await tinyGuest();
  const kvm = await timeToReady(disk, "kvm", PROBE_LIMIT_MS);
  if (kvm === undefined) return "tcg";
  return (await timeToReady(disk, "tcg", kvm)) === undefined ? "kvm" : "tcg";
}

/** Milliseconds until the guest said that it is up, or undefined when it did not within the limit. */
async function timeToReady(disk: string, accelerator: Accelerator, limitMs: number): Promise<number | undefined> {
  const scratch = await mkdtemp(join(tmpdir(), "accelerator-"));
  const console = join(scratch, "console");
  try {
    const copy = join(scratch, "disk.img");
    await copyFile(disk, copy, constants.COPYFILE_FICLONE);
    const start = performance.now();
    const qemu = await QemuProcess.start(probeMachine(copy, accelerator), { console, onEvent: () => undefined });
    try {
      while (performance.now() - start < limitMs) {
        if ((await readFile(console, "utf8").catch(() => "")).includes("TINY READY")) return performance.now() - start;
        const status = (await qemu.qmp.execute("query-status")) as { status?: string };
        if (status.status === "internal-error") return undefined;
        await delay(50);
      }
      return undefined;
    } finally {
      await qemu.kill();
    }
  } catch {
    return undefined;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function probeMachine(disk: string, accelerator: Accelerator): MachineSpec {
  return {
    ...{ name: "probe", chipset: "q35", accelerator, cpus: 1, memoryBytes: 128 << 20, firmware: {} },
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
    interfaces: [],
    hasRandomSource: false,
  };
}
