import type { DiskStatus, RelocationProgress } from "../api/agent-control.ts";
import type { Clock } from "../base/clock.ts";
import { RateWindow } from "../base/rate-window.ts";
import type { AgentSession } from "./agent-session.ts";

const RATE_WINDOW_MS = 10_000;

/** What a disk's relocation tells the agent: only ever what is durable at the target. */
export class Progress {
  readonly #disk: string;
  readonly #session: AgentSession;
  readonly #clock: Clock;
  readonly #rate: RateWindow;
  #told: RelocationProgress;

  constructor(disk: string, session: AgentSession, clock: Clock, earlier: DiskStatus["relocation"]) {
    this.#disk = disk;
    this.#session = session;
    this.#clock = clock;
    this.#rate = new RateWindow(RATE_WINDOW_MS, clock.monotonic());
    this.#told = earlier ?? { cursor: 0, bytesTotal: 0, bytesDurable: 0, rate: 0, state: "FirstPass" };
  }

  /** What was told last. */
  get told(): RelocationProgress {
    return this.#told;
  }

  /** Bytes that have become durable at the target since the last call, whichever pass they belong to. */
  count(bytes: number): void {
    this.#rate.add(bytes, this.#clock.monotonic());
  }

  /** Resolves when the agent has it durably. */
  async tell(change: Partial<Omit<RelocationProgress, "rate">>, signal: AbortSignal): Promise<void> {
    const rate = Math.round(this.#rate.rate(this.#clock.monotonic()));
    const next: RelocationProgress = { ...this.#told, ...change, rate };
    await this.#session.ask((client) => client.reportRelocation(this.#disk, next, signal), signal);
    this.#told = next;
  }

  /** Tells it again where the rate has changed: one that stands still must not look like one that moves. */
  async tellRate(signal: AbortSignal): Promise<void> {
    if (Math.round(this.#rate.rate(this.#clock.monotonic())) !== this.#told.rate) await this.tell({}, signal);
  }
}
