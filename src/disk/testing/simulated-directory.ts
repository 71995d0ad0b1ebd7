import type { OverlayDirectory, OverlayFile } from "../overlay/files.ts";

const SECTOR = 512;

/** The machine went down: thrown by every operation from the chosen one on. */
export class PowerLoss extends Error {}

/** Full disk, as Node reports it. */
class OutOfSpace extends Error {
  readonly code = "ENOSPC";
}

class Content {
  /** What a power loss leaves for certain. */
  durable = Buffer.alloc(0);
  /** What a reader sees. */
  volatile = Buffer.alloc(0);

  resize(size: number): void {
    const next = Buffer.alloc(size);
    this.volatile.copy(next);
    this.volatile = next;
  }

  /** After a power loss each sector that was not synced is the old or the new one, as `pick` says. */
  lose(pick: () => boolean): void {
    const size = pick() ? this.volatile.length : this.durable.length;
    const left = Buffer.alloc(size);
    for (let at = 0; at < size; at += SECTOR) {
      const from = pick() ? this.volatile : this.durable;
      if (at < from.length) from.copy(left, at, at, Math.min(at + SECTOR, from.length, size));
    }
    this.durable = left;
    this.volatile = Buffer.from(left);
  }
}

/**
 * A directory on a disk that forgets: writes are durable only once synced, names only once the directory is, and a power loss
 * keeps any part of the rest. Every operation counts, so a test can cut the power at each one.
 */
export class SimulatedDirectory implements OverlayDirectory {
  #names = new Map<string, Content>();
  #durableNames = new Map<string, Content>();
  /** Operations until the power goes, or undefined. */
  powerLossAfter: number | undefined;
  /** Bytes that may still be added to data files, or undefined for no limit. */
  space: number | undefined;
  /** Makes every sync fail from now on. */
  failSyncs = false;
  operations = 0;

  /** What is left after the power comes back. @param pick a coin that decides for each thing that was not synced */
  afterPowerLoss(pick: () => boolean): void {
    this.powerLossAfter = undefined;
    const names = pick() ? this.#names : this.#durableNames;
    for (const content of new Set([...this.#names.values(), ...this.#durableNames.values()])) content.lose(pick);
    this.#names = new Map(names);
    this.#durableNames = new Map(names);
  }

  /** What is left when only the process dies: the page cache stays. */
  afterProcessDeath(): void {
    this.powerLossAfter = undefined;
  }

  async open(name: string): Promise<OverlayFile> {
    await this.#step();
    let content = this.#names.get(name);
    if (content === undefined) {
      content = new Content();
      this.#names.set(name, content);
    }
    const file = content;
    const step = (): Promise<void> => this.#step();
    const directory = this;
    return {
      get size() {
        return file.volatile.length;
      },
      async read(into, offset) {
        await step();
        into.fill(0);
        file.volatile.copy(into, 0, offset, offset + into.length);
      },
      async write(bytes, offset) {
        await step();
        if (directory.space !== undefined && name.endsWith(".data")) {
          if (directory.space < bytes.length) throw new OutOfSpace();
          directory.space -= bytes.length;
        }
        if (file.volatile.length < offset + bytes.length) file.resize(offset + bytes.length);
        file.volatile.set(bytes, offset);
      },
      async truncate(size) {
        await step();
        file.resize(size);
      },
      async datasync() {
        await step();
        if (directory.failSyncs) throw Object.assign(new Error("input/output error"), { code: "EIO" });
        file.durable = Buffer.from(file.volatile);
      },
      async close() {},
    };
  }

  async exists(name: string): Promise<boolean> {
    await this.#step();
    return this.#names.has(name);
  }

  async list(): Promise<string[]> {
    await this.#step();
    return [...this.#names.keys()];
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#step();
    const content = this.#names.get(from);
    if (content === undefined) throw new Error(`no ${from}`);
    this.#names.delete(from);
    this.#names.set(to, content);
  }

  async remove(name: string): Promise<void> {
    await this.#step();
    this.#names.delete(name);
  }

  async sync(): Promise<void> {
    await this.#step();
    this.#durableNames = new Map(this.#names);
  }

  async free(): Promise<number> {
    return this.space ?? Number.MAX_SAFE_INTEGER;
  }

  async #step(): Promise<void> {
    await Promise.resolve();
    this.operations++;
    if (this.powerLossAfter === undefined) return;
    if (this.powerLossAfter <= 0) throw new PowerLoss("power loss");
    this.powerLossAfter--;
  }
}
