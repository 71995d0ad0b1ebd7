import { setTimeout as delay } from "node:timers/promises";
import { launch } from "./commands.ts";

const BOOT_LIMIT_MS = 10 * 60_000;
let number = 0;

/**
 * Boots the Debian guest from a drive until its web page answers, then ends it.
 *
 * @param drive what follows `-drive`, without interface: `file=…,format=raw`
 * @param onReady called while the guest still runs
 * @returns milliseconds from power-on to the page
 */
export async function bootUntilPage(drive: string, onReady: () => Promise<void> = async () => {}): Promise<number> {
  number++;
  const address = `127.82.0.${number % 250}`;
  const qemu = launch(
    "qemu-system-x86_64",
    [
      ...["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "768", "-smp", "1"],
      ...["-display", "none", "-nodefaults", "-serial", "null", "-no-reboot"],
      ...["-drive", `${drive},if=virtio,cache=none,aio=threads,discard=unmap`],
      ...["-netdev", `user,id=net,hostfwd=tcp:${address}:8080-:80`, "-device", "virtio-net-pci,netdev=net"],
      ...["-device", "virtio-rng-pci"],
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let complaint = "";
  qemu.stderr?.setEncoding("utf8").on("data", (text: string) => {
    complaint += text;
  });
  const ended = new Promise<void>((resolve) => qemu.once("close", () => resolve()));
  const start = performance.now();
  const over = new AbortController();
  try {
    // A request that comes before the guest's network is up may hang for seconds, and would hide that the page answers by then: a new
    // one is begun all the time.
    let isUp = false;
    while (!isUp) {
      const signal = AbortSignal.any([over.signal, AbortSignal.timeout(4000)]);
      void fetch(`http://${address}:8080/`, { signal }).then(
        (answer) => {
          isUp ||= answer.ok;
        },
        () => undefined,
      );
      if (qemu.exitCode !== null || performance.now() - start > BOOT_LIMIT_MS)
        throw new Error(`the guest did not come up: ${complaint}`);
      await delay(200);
    }
    const elapsed = performance.now() - start;
    await onReady();
    return elapsed;
  } finally {
    over.abort();
    qemu.kill("SIGKILL");
    await ended;
  }
}
