import type { DiskBus, DiskStatus, Generation, RelocationProgress } from "../api/agent-control.ts";
import type { ReadClass } from "../disk/block-device.ts";
import type { Overlay } from "../disk/overlay/overlay.ts";
import type { NfsServer } from "../nfs/server.ts";
import type { AgentState } from "./agent-state.ts";
import type { AnswerLimit } from "./answer-limit.ts";
import { AgentError } from "./errors.ts";
import { nfsDisk } from "./nfs-disk.ts";

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
}

export interface ExportedDiskOptions {
  readonly name: string;
  readonly overlay: Overlay;
  readonly state: AgentState;
  readonly nfs: NfsServer;
  readonly epoch: number;
  readonly observer: ExportObserver;
  readonly patience: (bus: DiskBus) => AnswerLimit | undefined;
}

/** One disk while it is served: its overlay, its NFS export, and what the control API does to it. */
export class ExportedDisk {
  readonly name: string;
  readonly overlay: Overlay;
  readonly #options: ExportedDiskOptions;
  /** Changes to the seal run one after the other. */
  #sealing: Promise<void> = Promise.resolve();

  constructor(options: ExportedDiskOptions) {
    this.name = options.name;
    this.overlay = options.overlay;
    this.#options = options;
    this.#serve();
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
      this.#serve();
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
    return {
      name: this.name,
      size: overlay.size,
      exportPath: this.exportPath,
      sealed: overlay.sealed,
      bus: this.#options.state.disk(this.name).bus,
      overlayBytes: overlay.overlayBytes,
      dirtyBytes: overlay.dirtyBytes,
      bootSetStaged: bootSet.staged,
      bootSetTotal: bootSet.total,
      ...(copiedUntil === 0 ? {} : { copiedUntil: Math.min(copiedUntil, overlay.size) }),
      ...(relocation === undefined ? {} : { relocation }),
    };
  }

  #serve(): void {
    const { name } = this;
    const { state, nfs, observer, overlay: device } = this.#options;
    const limit = (): AnswerLimit | undefined => this.#options.patience(state.disk(name).bus);
    nfs.addExport(nfsDisk({ name, device, state: state.disk(name), observer, limit }));
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
