import type { AgentPhase } from "../api/agent-control.ts";
import type { BootProfile } from "../api/boot-profile.ts";
import { BootRecorder, type RecordedDisk } from "./boot-recorder.ts";

interface GuestRead {
  readonly disk: string;
  readonly offset: number;
  readonly end: number;
  missed: boolean;
}

/**
 * Follows a boot: counts what the guest found staged, and records what it read. A boot that this process did not see from its
 * beginning teaches nothing: its profile would lack what was read before.
 */
export class BootWatch {
  #phase: AgentPhase | undefined;
  #recorder: BootRecorder | undefined;
  readonly #underWay = new Set<GuestRead>();
  #reads = 0;
  #hits = 0;

  /** @param phase of an earlier process */
  constructor(phase: AgentPhase | undefined) {
    this.#phase = phase;
  }

  /** Guest reads while booting. */
  get guestReads(): number {
    return this.#reads;
  }

  /** Those whose data was all in the cache or the overlay when they came. */
  get guestHits(): number {
    return this.#hits;
  }

  /** A client begins to read through the guest's export. Gives back whom to tell when it has its data, if it counts. */
  guestRead(disk: string, offset: number, length: number): (() => void) | undefined {
    if (this.#phase !== "Booting") return undefined;
    const read: GuestRead = { disk, offset, end: offset + length, missed: false };
    this.#underWay.add(read);
    return () => {
      if (!this.#underWay.delete(read)) return;
      this.#reads++;
      if (!read.missed) this.#hits++;
    };
  }

  /** The part of a guest read that came from the backup's image; `missed` where any of it had to come from the repository. */
  imageRead(disk: string, offset: number, length: number, missed: boolean): void {
    if (missed) {
      for (const read of this.#underWay) {
        if (read.disk === disk && read.offset < offset + length && offset < read.end) read.missed = true;
      }
    }
    this.#recorder?.read(disk, offset, length);
  }

  /** @returns the profile that was learned, where a boot just became ready */
  async enter(
    phase: AgentPhase,
    disks: readonly RecordedDisk[],
    earlier: BootProfile | undefined,
  ): Promise<BootProfile | undefined> {
    if (phase === this.#phase) return undefined;
    this.#phase = phase;
    if (phase === "Booting") {
      this.#recorder = new BootRecorder(disks);
      this.#reads = 0;
      this.#hits = 0;
    }
    // What is under way now began in another phase.
    this.#underWay.clear();
    if (phase === "BootFailed" || phase === "Staging") this.#recorder = undefined;
    if (phase !== "Ready") return undefined;
    const recorder = this.#recorder;
    this.#recorder = undefined;
    return recorder?.profile(earlier);
  }
}
