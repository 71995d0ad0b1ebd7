import type { AgentPhase } from "../api/agent-control.ts";
import type { BootProfile } from "../api/boot-profile.ts";
import { BootRecorder } from "./boot-recorder.ts";

type Disks = readonly { readonly name: string; readonly size: number }[];

/**
 * Follows a boot: counts what the guest found staged, and records what it read. A boot that this process did not see from its
 * beginning teaches nothing: its profile would lack what was read before.
 */
export class BootWatch {
  readonly #disks: Disks;
  #phase: AgentPhase | undefined;
  #recorder: BootRecorder | undefined;
  #reads = 0;
  #misses = 0;

  /** @param phase of an earlier process */
  constructor(disks: Disks, phase: AgentPhase | undefined) {
    this.#disks = disks;
    this.#phase = phase;
  }

  /** Guest reads while booting. */
  get guestReads(): number {
    return this.#reads;
  }

  /** Those that found everything in the cache or the overlay. A read of several pieces of the backup may count as two misses. */
  get guestHits(): number {
    return Math.max(0, this.#reads - this.#misses);
  }

  /** A client's read through the guest's export. */
  guestRead(): void {
    if (this.#phase === "Booting") this.#reads++;
  }

  /** The part of a guest read that came from the backup's image. */
  imageRead(disk: string, offset: number, length: number, missed: boolean): void {
    if (this.#phase === "Booting" && missed) this.#misses++;
    this.#recorder?.read(disk, offset, length);
  }

  /** @returns the profile that was learned, where a boot just became ready */
  enter(phase: AgentPhase, earlier: BootProfile | undefined): BootProfile | undefined {
    if (phase === this.#phase) return undefined;
    this.#phase = phase;
    if (phase === "Booting") {
      this.#recorder = new BootRecorder(this.#disks);
      this.#reads = 0;
      this.#misses = 0;
    }
    if (phase === "BootFailed" || phase === "Staging") this.#recorder = undefined;
    if (phase !== "Ready") return undefined;
    const learned = this.#recorder?.profile(earlier);
    this.#recorder = undefined;
    return learned;
  }
}
