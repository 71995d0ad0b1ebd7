import { HypervisorError } from "./errors.ts";
import type { QmpClient, QmpEvent } from "./qmp.ts";

/** The events of a QEMU from now on: what came before somebody waits for it is not missed. */
export class QmpEvents {
  readonly #seen: QmpEvent[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #unsubscribe: () => void;
  #ended: Error | undefined;

  /** @param signal ends every wait with its reason */
  constructor(qmp: QmpClient, signal: AbortSignal) {
    this.#unsubscribe = qmp.subscribe((event) => {
      this.#seen.push(event);
      this.#wake();
    });
    const end = (error: Error): void => {
      this.#ended ??= error;
      this.#wake();
    };
    void qmp.closed.then(() => end(new HypervisorError("QEMU_UNREACHABLE", "QEMU has ended meanwhile")));
    if (signal.aborted) end(signal.reason as Error);
    else signal.addEventListener("abort", () => end(signal.reason as Error), { once: true });
  }

  /** The first event that `is` is true of, among those of the past, too. */
  async next(is: (event: QmpEvent) => boolean): Promise<QmpEvent> {
    for (;;) {
      const found = this.#seen.find(is);
      if (found !== undefined) return found;
      if (this.#ended !== undefined) throw this.#ended;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  close(): void {
    this.#unsubscribe();
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}
