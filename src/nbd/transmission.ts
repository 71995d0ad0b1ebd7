import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { AdaptivePoll } from "../base/adaptive-poll.ts";
import { ByteQueue } from "../base/byte-queue.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { ReadBuffers } from "../base/read-buffers.ts";
import type { TurnBudget } from "../base/turn-budget.ts";
import type { NbdExport, NbdExtent } from "./export.ts";
import type { Negotiated } from "./handshake.ts";
import {
  blockStatusChunk,
  dataHead,
  doneChunk,
  errorChunk,
  holeChunk,
  parseRequest,
  type Request,
  simpleReply,
} from "./messages.ts";
import {
  BASE_ALLOCATION,
  CHUNK_DONE,
  CMD,
  CMD_FLAG,
  ERRNO,
  EXTENT_LIMIT,
  PAYLOAD_LIMIT,
  REQUEST_BYTES,
  STATE,
} from "./protocol.ts";
import { SingleWrites } from "./single-writes.ts";

/** Requests carried out at once for one connection, and bytes that their writes may hold together. */
const REQUESTS_AT_ONCE = 128;
const WRITTEN_AT_ONCE = 64 * 1024 * 1024;
/** What was read before waits to be sent: reading on would only push it out of the processor's cache. */
const UNSENT_LIMIT = 2 * 1024 * 1024;
/** Reads of so many bytes begin only as fast as the event loop can copy what is cached: more at once would need more buffers, and no more. */
const LONG_READ = 64 * 1024;
/** Requests that were read from the socket and wait for such a one. */
const QUEUED_LIMIT = 64 * 1024;
const CACHE_STEP = 1024 * 1024;
/** A shorter read is answered with its zeros: looking for holes would cost more than sending them. */
const HOLES_FROM = 16 * 1024;
const KNOWN_FLAGS = CMD_FLAG.fua | CMD_FLAG.noHole | CMD_FLAG.df | CMD_FLAG.reqOne | CMD_FLAG.fastZero;

/** Counted for all connections of a server since its start: commands begun, payload bytes, and error replies. */
export interface NbdCounters {
  reads: number;
  writes: number;
  flushes: number;
  trims: number;
  writeZeroes: number;
  blockStatuses: number;
  caches: number;
  bytesRead: number;
  bytesWritten: number;
  errors: number;
}

export function newCounters(): NbdCounters {
  const bytes = { bytesRead: 0, bytesWritten: 0 };
  return {
    reads: 0,
    writes: 0,
    flushes: 0,
    trims: 0,
    writeZeroes: 0,
    blockStatuses: 0,
    caches: 0,
    ...bytes,
    errors: 0,
  };
}

/** The transmission phase of one connection: many requests at once, answered as they finish, bounded in number and bytes. */
export class Transmission {
  readonly #stream: Duplex;
  readonly #target: NbdExport;
  readonly #negotiated: Negotiated;
  readonly #counters: NbdCounters;
  readonly #buffers: ReadBuffers;
  readonly #longReads: TurnBudget;
  readonly #queue = new ByteQueue();
  /** Where the connection is encrypted. */
  readonly #singly: SingleWrites | undefined;
  /** The request whose payload is still on its way. */
  #head: Request | undefined;
  /** It is a long read, and may not begin in this turn of the event loop. */
  #waitsForTurn = false;
  #running = 0;
  /** Payloads of writes under way. */
  #written = 0;
  /** Buffers of reads, until the client has taken their data. */
  #lent = 0;
  /** What reads under way will need beside that: a sparse one takes a buffer for each of its pieces, one after the other. */
  #promised = 0;
  #ending = false;
  #corked = false;
  readonly #poll = new AdaptivePoll();

  /** @param longReads shared by all connections, as the event loop is */
  constructor(negotiated: Negotiated, counters: NbdCounters, buffers: ReadBuffers, longReads: TurnBudget) {
    this.#negotiated = negotiated;
    this.#longReads = longReads;
    this.#stream = negotiated.stream;
    this.#singly =
      negotiated.stream instanceof TLSSocket ? new SingleWrites(negotiated.stream, () => this.#proceed()) : undefined;
    this.#target = negotiated.target;
    this.#counters = counters;
    this.#buffers = buffers;
  }

  start(): void {
    this.#stream.on("data", (piece: Buffer) => {
      if (this.#ending) return;
      this.#poll.arrived();
      this.#queue.push(piece);
      this.#proceed();
    });
    this.#stream.on("drain", () => this.#proceed());
    this.#stream.on("error", () => this.#stream.destroy());
    this.#queue.push(this.#negotiated.ahead);
    this.#stream.resume();
    this.#proceed();
  }

  #proceed(): void {
    while (!this.#ending && this.#mayBegin() && this.#next()) {
      // Each turn begins one request.
    }
    const isFull = this.#waitsForTurn ? this.#queue.length > QUEUED_LIMIT : !this.#mayBegin();
    if (isFull && !this.#stream.isPaused()) this.#stream.pause();
    else if (!isFull && this.#stream.isPaused()) this.#stream.resume();
    // The other side need not close its half: whoever said goodbye is not waited for.
    const isAnswered = this.#running === 0 && (this.#singly?.isEmpty ?? true);
    if (this.#ending && isAnswered && !this.#stream.writableEnded) this.#stream.end(() => this.#stream.destroy());
  }

  #mayBegin(): boolean {
    return (
      !this.#waitsForTurn &&
      this.#running < REQUESTS_AT_ONCE &&
      this.#written < WRITTEN_AT_ONCE &&
      (this.#singly?.unsent ?? this.#stream.writableLength) < UNSENT_LIMIT &&
      this.#buffers.mayLend(this.#lent + this.#promised)
    );
  }

  /** Begins the next request where it has come whole; gives back whether there was one. */
  #next(): boolean {
    if (this.#head === undefined) {
      if (this.#queue.length < REQUEST_BYTES) return false;
      const head = parseRequest(this.#queue.take(REQUEST_BYTES));
      if (head === undefined) {
        this.#stream.destroy();
        this.#ending = true;
        return false;
      }
      this.#head = head;
    }
    const request = this.#head;
    const isLong = request.type === CMD.read && request.length >= LONG_READ && request.length <= PAYLOAD_LIMIT;
    if (isLong && !this.#longReads.take(request.length)) {
      this.#waitForTurn(request);
      return false;
    }
    if (request.type !== CMD.write) {
      this.#head = undefined;
      this.#begin(request, undefined);
      return true;
    }
    if (request.length > PAYLOAD_LIMIT) {
      // What follows cannot be told from requests any more.
      this.#stream.destroy();
      this.#ending = true;
      return false;
    }
    if (this.#queue.length < request.length) return false;
    this.#head = undefined;
    this.#begin(request, this.#queue.take(request.length));
    return true;
  }

  #waitForTurn(request: Request): void {
    this.#head = undefined;
    this.#waitsForTurn = true;
    void this.#longReads.wait(request.length).then(() => {
      this.#waitsForTurn = false;
      if (!this.#ending && !this.#stream.destroyed) this.#begin(request, undefined);
      this.#proceed();
    });
  }

  #begin(request: Request, payload: Buffer | undefined): void {
    if (request.type === CMD.disc) {
      this.#ending = true;
      return;
    }
    const held = payload?.length ?? 0;
    this.#running++;
    this.#written += held;
    this.#carryOut(request, payload)
      .catch((error: unknown) => this.#fail(request, errno(error), errorMessage(error)))
      .finally(() => {
        this.#running--;
        this.#written -= held;
        this.#proceed();
      });
  }

  async #carryOut(request: Request, payload: Buffer | undefined): Promise<void> {
    const target = this.#target;
    const { flags, type, offset, length } = request;
    const options = { fua: (flags & CMD_FLAG.fua) !== 0 };
    if ((flags & ~KNOWN_FLAGS) !== 0) return this.#fail(request, ERRNO.inval, "unknown flags");
    const isChange = type === CMD.write || type === CMD.writeZeroes || type === CMD.trim;
    if (isChange && target.readOnly) return this.#fail(request, ERRNO.perm, "the export is read-only");
    if (type !== CMD.flush && offset + length > target.size) {
      return this.#fail(
        request,
        type === CMD.write || type === CMD.writeZeroes ? ERRNO.nospc : ERRNO.inval,
        "beyond the end of the export",
      );
    }
    switch (type) {
      case CMD.read:
        return this.#read(request);
      case CMD.write:
        this.#counters.writes++;
        this.#counters.bytesWritten += length;
        await target.write(offset, payload as Buffer, options);
        return this.#done(request);
      case CMD.writeZeroes:
        if ((flags & CMD_FLAG.fastZero) !== 0) return this.#fail(request, ERRNO.notsup, "fast zero was not offered");
        this.#counters.writeZeroes++;
        await target.writeZeroes(offset, length, { ...options, mayTrim: (flags & CMD_FLAG.noHole) === 0 });
        return this.#done(request);
      case CMD.trim:
        this.#counters.trims++;
        await target.trim(offset, length, options);
        return this.#done(request);
      case CMD.flush:
        this.#counters.flushes++;
        await target.flush();
        return this.#done(request);
      case CMD.cache:
        this.#counters.caches++;
        await this.#cache(request);
        return this.#done(request);
      case CMD.blockStatus:
        this.#counters.blockStatuses++;
        return this.#blockStatus(request);
      default:
        return this.#fail(request, ERRNO.inval, "unknown command");
    }
  }

  /** Reading is what brings data near; nothing is sent. */
  async #cache({ offset, length }: Request): Promise<void> {
    const end = offset + Math.min(length, PAYLOAD_LIMIT);
    for (let at = offset; at < end && !this.#stream.destroyed; at += CACHE_STEP) {
      await this.#target.read(at, Math.min(CACHE_STEP, end - at));
    }
  }

  async #read(request: Request): Promise<void> {
    const { offset, length, cookie, flags } = request;
    if (length > PAYLOAD_LIMIT) return this.#fail(request, ERRNO.inval, "too long");
    const { structured } = this.#negotiated;
    this.#counters.reads++;
    this.#counters.bytesRead += length;
    if (!structured) {
      await this.#sendData(simpleReply(cookie, 0), offset, length);
      return;
    }
    const mayHaveHoles = (flags & CMD_FLAG.df) === 0 && length >= HOLES_FROM;
    const extents = mayHaveHoles ? this.#target.blockStatus(BASE_ALLOCATION, offset, length) : [];
    if (extents.some(isZero)) await this.#sendSparse(request, extents);
    else if (length > 0) await this.#sendData(dataHead(cookie, CHUNK_DONE, offset, length), offset, length);
    else this.#send(doneChunk(cookie));
  }

  async #sendSparse({ offset, length, cookie }: Request, extents: readonly NbdExtent[]): Promise<void> {
    const end = offset + length;
    let at = offset;
    let promised = extents.reduce((left, extent) => left - (isZero(extent) ? extent.length : 0), length);
    this.#promised += promised;
    const take = (bytes: number): void => {
      promised -= bytes;
      this.#promised -= bytes;
    };
    try {
      for (const extent of extents) {
        const bytes = Math.min(extent.length, end - at);
        if (bytes <= 0) break;
        const last = at + bytes === end ? CHUNK_DONE : 0;
        if (isZero(extent)) this.#send(holeChunk(cookie, last, at, bytes));
        else {
          take(bytes);
          await this.#sendData(dataHead(cookie, last, at, bytes), at, bytes);
        }
        at += bytes;
      }
      // A status may stop short of the range: the rest goes as data.
      take(promised);
      if (at < end) await this.#sendData(dataHead(cookie, CHUNK_DONE, at, end - at), at, end - at);
    } finally {
      take(promised);
    }
  }

  /** Reads, then sends what `head` announces, in a buffer that is used again when it has left. */
  async #sendData(head: Buffer, offset: number, length: number): Promise<void> {
    if (length === 0) {
      this.#send(head);
      return;
    }
    const buffer = this.#buffers.take(length);
    this.#lent += buffer.length;
    const giveBack = (mayBeUsed: boolean): void => {
      this.#lent -= buffer.length;
      if (mayBeUsed) this.#buffers.forget(buffer);
      else this.#buffers.give(buffer);
    };
    try {
      const data = await this.#target.read(offset, length, buffer);
      this.#send(head, data, (error) => {
        giveBack(error !== undefined && error !== null);
        this.#proceed();
      });
    } catch (error) {
      giveBack(true);
      throw error;
    }
  }

  #blockStatus(request: Request): void {
    const { offset, length, cookie, flags } = request;
    const { contexts } = this.#negotiated;
    if (contexts.length === 0 || length === 0) {
      this.#fail(request, ERRNO.inval, "no context was negotiated, or no range given");
      return;
    }
    for (const [index, { id, name }] of contexts.entries()) {
      const all = this.#target.blockStatus(name, offset, length);
      const extents =
        (flags & CMD_FLAG.reqOne) !== 0
          ? all.slice(0, 1).map((extent) => cut(extent, length))
          : all.slice(0, EXTENT_LIMIT);
      const done = index === contexts.length - 1 ? CHUNK_DONE : 0;
      this.#send(blockStatusChunk(cookie, done, id, extents));
    }
  }

  #done({ cookie }: Request): void {
    this.#send(this.#negotiated.structured ? doneChunk(cookie) : simpleReply(cookie, 0));
  }

  #fail({ cookie }: Request, error: number, message: string): void {
    this.#counters.errors++;
    this.#send(this.#negotiated.structured ? errorChunk(cookie, error, message) : simpleReply(cookie, error));
  }

  /** @param onSent called once nobody reads `data` any more, or with an error where that is not known */
  #send(head: Buffer, data?: Buffer, onSent?: (error?: Error | null) => void): void {
    if (this.#stream.destroyed) {
      onSent?.(null);
      return;
    }
    if (!this.#corked) {
      // Answers that are ready together leave together.
      this.#corked = true;
      if (this.#singly === undefined) this.#stream.cork();
      process.nextTick(this.#uncork);
    }
    const to = this.#singly ?? this.#stream;
    to.write(head);
    if (data !== undefined) to.write(data, onSent);
  }

  readonly #uncork = (): void => {
    this.#corked = false;
    if (this.#singly === undefined) this.#stream.uncork();
    else this.#singly.flush();
    if (this.#running === 0 && !this.#ending) this.#poll.answered();
  };
}

function errno(error: unknown): number {
  switch (errorCode(error)) {
    case "DISK_SEALED":
      return ERRNO.perm;
    case "OVERLAY_FULL":
      return ERRNO.nospc;
    case "DISK_CLOSED":
      return ERRNO.shutdown;
    default:
      return ERRNO.io;
  }
}

function isZero({ flags }: NbdExtent): boolean {
  return (flags & STATE.zero) !== 0;
}

function cut(extent: NbdExtent, length: number): NbdExtent {
  return { length: Math.min(extent.length, length), flags: extent.flags };
}
