import type { Clock } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import type { TlsFiles } from "../base/tls-files.ts";
import { NbdClient } from "../nbd/client.ts";
import { NbdError } from "../nbd/errors.ts";
import { Backoff } from "./backoff.ts";

const ALLOCATION = "base:allocation";
/** The meta context that names the pages of the frozen generation. */
const DIRTY = "qemu:dirty-bitmap:relocation";
const ZERO = 2;
const DIRTY_BIT = 1;
/** Bytes that one block-status request asks about. */
const WINDOW = 256 * 1024 * 1024;

/** A run of a disk, in order. `matters` is what was asked: it holds data (allocation), it is dirty (dirty bitmap). */
export interface SourceRun {
  readonly offset: number;
  readonly length: number;
  readonly matters: boolean;
}

export interface SourceOptions {
  readonly host: string;
  readonly port: number;
  readonly tls?: TlsFiles;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A disk at the media agent, over one NBD connection. When that breaks, everything under way fails with NbdError. */
export class Source {
  readonly #client: NbdClient;
  readonly #options: SourceOptions;
  readonly #closing = new AbortController();

  private constructor(client: NbdClient, options: SourceOptions) {
    this.#client = client;
    this.#options = options;
  }

  static async connect(disk: string, options: SourceOptions): Promise<Source> {
    const { host, port, tls } = options;
    const client = await NbdClient.connect({
      host,
      port,
      exportName: disk,
      contexts: [DIRTY],
      ...(tls === undefined ? {} : { tls }),
    });
    return new Source(client, options);
  }

  get size(): number {
    return this.#client.size;
  }

  /**
   * Waits while the agent cannot read: its repository may be away, and everything else that was copied is still good.
   *
   * @param buffer where the bytes go, if given
   */
  async read(offset: number, length: number, buffer?: Buffer): Promise<Buffer> {
    if (length === 0) return Buffer.alloc(0);
    const { clock, log } = this.#options;
    const backoff = new Backoff(clock);
    for (;;) {
      try {
        return await this.#client.read(offset, length, buffer);
      } catch (error) {
        if (!(error instanceof NbdError) || error.code !== "NBD_IO") throw error;
        log.warn({ offset, length, reason: errorMessage(error) }, "the media agent cannot read; trying again");
        await backoff.wait(this.#closing.signal);
      }
    }
  }

  /**
   * Resolves when everything that was read so far is durable at the agent, together with the dirty marks of what the guest
   * wrote last: an agent that crashes afterwards cannot forget a change that the target has already.
   */
  flush(): Promise<void> {
    return this.#client.flush();
  }

  /** What holds data, from `offset` to `end`; neighbours may be alike. */
  allocation(offset: number, end: number): AsyncGenerator<SourceRun> {
    return this.#runs(ALLOCATION, (flags) => (flags & ZERO) === 0, offset, end);
  }

  /** What the frozen generation names. */
  dirty(offset: number, end: number): AsyncGenerator<SourceRun> {
    return this.#runs(DIRTY, (flags) => (flags & DIRTY_BIT) !== 0, offset, end);
  }

  close(): void {
    this.#closing.abort(new NbdError("NBD_DISCONNECTED", "the connection was closed from this side"));
    this.#client.close();
  }

  async *#runs(
    context: string,
    matters: (flags: number) => boolean,
    offset: number,
    end: number,
  ): AsyncGenerator<SourceRun> {
    for (let at = offset; at < end; ) {
      for (const extent of await this.#client.blockStatus(context, at, Math.min(WINDOW, end - at))) {
        const length = Math.min(extent.length, end - at);
        if (length > 0) yield { offset: at, length, matters: matters(extent.flags) };
        at += length;
      }
    }
  }
}
