import type { DiskBus, DiskStatus, Generation, RelocationProgress } from "../api/agent-control.ts";
import type { Clock } from "../base/clock.ts";
import type { ReadClass } from "../disk/block-device.ts";
import { DiskError } from "../disk/errors.ts";
import type { Overlay } from "../disk/overlay/overlay.ts";
import type { NfsServer } from "../nfs/server.ts";
import type { AgentState } from "./agent-state.ts";
import type { AnswerLimit } from "./answer-limit.ts";
import { AgentError } from "./errors.ts";
import { FencedWrites } from "./fenced-writes.ts";
import { nfsDisk } from "./nfs-disk.ts";
import { NO_MOUNTS } from "./writer-fence.ts";

/** A read of a client that is under way. */
export interface Reading {
  /** Whose it is. */
  readonly readClass: "guest" | "relocation";
  /** It is done. Seconds. */
  end(took: number): void;
}

/** Told of each read and write of a client, once it is done. Seconds. */
export interface DiskObserver {
  read(disk: string, readClass: ReadClass, bytes: number, took: number): void;
  written(disk: string, bytes: number, took: number): void;
}

export interface ExportObserver extends DiskObserver {
  /** A client begins to read through the guest's export, which a live migration's copy uses too. */
  reading(disk: string, offset: number, length: number): Reading;
  /** A write was refused: the machine that sent it has mounted before another that writes. */
  writeRefused(disk: string, machine: string): void;
}

export interface ExportedDiskOptions {
  readonly name: string;
  readonly overlay: Overlay;
  readonly state: AgentState;
  readonly nfs: NfsServer;
  readonly epoch: number;
  readonly observer: ExportObserver;
  readonly patience: (bus: DiskBus) => AnswerLimit | undefined;
  readonly clock: Clock;
  /** The agent ends. */
  readonly signal: AbortSignal;
  /** What counts could not be made durable: the agent must end. */
  readonly onFailed: (error: unknown) => void;
}

/** One disk while it is served: its overlay, its NFS export, and what the control API does to it. */
export class ExportedDisk {
  readonly name: string;
  readonly overlay: Overlay;
  readonly #options: ExportedDiskOptions;
  /** Of the export path as it is now. */
  #writes: FencedWrites;
  /** Changes to the seal run one after the other. */
  #sealing: Promise<void> = Promise.resolve();

  constructor(options: ExportedDiskOptions) {
    this.name = options.name;
    this.overlay = options.overlay;
    this.#options = options;
    this.#writes = this.#serve();
  }

  /** Whether writes wait for space. */
  get full(): boolean {
    return this.overlay.full || this.#writes.full;
  }

  get exportPath(): string {
    return this.#options.state.disk(this.name).exportPath;
  }

  get relocation(): RelocationProgress | undefined {
    return this.#options.state.disk(this.name).relocation;
  }

  /** No write is acknowledged once it resolves, until {@link unseal}. */
  seal(epoch: number): Promise<void> {
    this.#checkEpoch(epoch);
    return this.#inTurn(() => this.overlay.seal());
  }

  /**
   * Writes are taken again, through a new export path with a new key: whoever still holds the old one (a launcher that was cut
   * off) stays out. A disk that is not sealed is left as it is.
   */
  unseal(epoch: number): Promise<void> {
    this.#checkEpoch(epoch);
    return this.#inTurn(async () => {
      if (!this.overlay.sealed) return;
      this.#options.nfs.removeExport(this.exportPath);
      // The new path is durable before the first write can be taken through it.
      await this.#options.state.renewExport(this.name);
      await this.overlay.unseal();
      this.#writes = this.#serve();
    });
  }

  freezeGeneration(): Promise<Generation> {
    return this.overlay.freezeGeneration();
  }

  dropGeneration(id: number): Promise<void> {
    return this.overlay.dropGeneration(id);
  }

  async setBus(bus: DiskBus): Promise<void> {
    if (this.#options.state.disk(this.name).bus !== bus) await this.#options.state.setBus(this.name, bus);
  }

  /** What was read up to here is durable at the target; it is durable here too before that is remembered. */
  async reportRelocation(progress: RelocationProgress): Promise<void> {
    await this.overlay.settle();
    await this.#options.state.setRelocation(this.name, progress);
  }

  status(bootSet: { readonly total: number; readonly staged: number }, copiedUntil: number): DiskStatus {
    const { overlay, relocation } = this;
    const { writer, refused, refusedMachine } = this.#writes;
    return {
      name: this.name,
      size: overlay.size,
      exportPath: this.exportPath,
      sealed: overlay.sealed,
      bus: this.#options.state.disk(this.name).bus,
      overlayBytes: overlay.overlayBytes,
      dirtyBytes: overlay.dirtyBytes,
      ...(writer === "" ? {} : { writer }),
      refusedWrites: refused,
      ...(refusedMachine === undefined ? {} : { refusedWriter: refusedMachine }),
      bootSetStaged: bootSet.staged,
      bootSetTotal: bootSet.total,
      ...(copiedUntil === 0 ? {} : { copiedUntil: Math.min(copiedUntil, overlay.size) }),
      ...(relocation === undefined ? {} : { relocation }),
    };
  }

  #serve(): FencedWrites {
    const { name } = this;
    const { state, nfs, observer, overlay: device, clock, signal, onFailed } = this.#options;
    const served = state.disk(name);
    const limit = (): AnswerLimit | undefined => this.#options.patience(state.disk(name).bus);
    const writes = new FencedWrites({
      fence: served.fence ?? NO_MOUNTS,
      save: (fence) => state.setFence(name, served.exportPath, fence),
      endWrites: async (error) => {
        // A write that has waited until the path became another one is nobody's any more.
        if (served.exportPath !== this.exportPath) throw new DiskError("DISK_CLOSED", "the export is gone");
        await device.endWrites(error);
      },
      onRefused: (machine) => observer.writeRefused(name, machine),
      onFailed,
      clock,
      signal,
    });
    nfs.addExport(nfsDisk({ name, device, state: served, writes, observer, limit }));
    return writes;
  }

  #checkEpoch(epoch: number): void {
    if (epoch === this.#options.epoch) return;
    throw new AgentError("STALE_EPOCH", `this agent runs epoch ${this.#options.epoch}, not ${epoch}`, {
      hint: "Ask the agent of that epoch.",
    });
  }

  #inTurn(body: () => Promise<void>): Promise<void> {
    const done = this.#sealing.catch(() => undefined).then(body);
    this.#sealing = done;
    return done;
  }
}
