import type { Clock } from "../base/clock.ts";
import { type Deferred, deferred } from "../base/deferred.ts";
import { release } from "../repository/release.ts";
import { LinkEstimate } from "./link-estimate.ts";
import { isDemand, isMoreUrgent, isRelocations, ReadQueue, type ReadReason, type SlotUse } from "./read-queue.ts";
import { relocationShare } from "./relocation-share.ts";

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 3000;
/** Failures of one blob, each followed by another blob's success: then it is not the repository that is away. */
const SINGLED_OUT = 6;
/** Of fewer bytes no rate is told. */
const RATE_MINIMUM = 16 * 2 ** 20;

/** What happens to requests; for metrics. Durations are milliseconds. */
export interface SchedulerObserver {
  /** A slot was given: `waited` since the request was queued. */
  started(reason: ReadReason, waited: number): void;
  /** The repository answered after `took`; `bytes` is undefined where it failed. */
  finished(reason: ReadReason, took: number, bytes: number | undefined): void;
  /** A demand read found its blob queued or in flight for another reason. */
  joined(reason: ReadReason): void;
}

/** A question to somebody who may have a blob, so that it need not come from the repository. */
export interface Ask {
  /** Verified bytes in a buffer that is given away, or a rejection. */
  readonly content: Promise<Buffer>;
  /** For how long a guest that waits for it lets it go on, in milliseconds. */
  readonly patienceMs: number;
  /** Whether who was asked fetches it, if need be. */
  readonly isFetched: boolean;
  /** Called once: its bytes are stored, or nobody waits for it any more. */
  end(): void;
}

export interface SchedulerOptions {
  /** Requests to the repository at once, at least 2: a staged read leaves one free. */
  readonly slots: number;
  readonly clock: Clock;
  /** Verified bytes of a blob, in a buffer that is given away, or a rejection. */
  readonly fetch: (id: string) => Promise<Buffer>;
  /** Asks somebody else first; undefined: nobody is to be asked now. It takes no slot, and whatever becomes of it, `fetch` comes next. */
  readonly ask?: (id: string, reason: ReadReason) => Ask | undefined;
  /** Puts a blob where later reads find it. Its request keeps its slot until then, so that memory stays bounded. */
  readonly store: (id: string, content: Buffer, reason: ReadReason) => Promise<void>;
  /** Whether the same request may succeed later: then it is repeated until it does, and its readers wait. */
  readonly isTransient: (error: unknown) => boolean;
  readonly observer: SchedulerObserver;
}

/** Somebody who waits for a blob's bytes. */
interface Reader {
  readonly use: (content: Buffer) => void;
  readonly done: Deferred<void>;
}

interface Request {
  readonly id: string;
  reason: ReadReason;
  state: "asking" | "queued" | "running" | "resting" | "answered";
  ask: Ask | undefined;
  since: number;
  failures: number;
  /** How often another blob was had while it waited to be repeated. */
  overtaken: number;
  /** The blob's bytes, from when they arrived until they are stored. */
  arrived: Buffer | undefined;
  readonly readers: Reader[];
  readonly stored: Deferred<void>;
}

/**
 * The one queue before the repository. All readers of a blob share one request, whose reason is the most urgent of theirs.
 * How many demand reads wait is bounded by the protocol servers, how many staged ones by who stages.
 */
export class ReadScheduler {
  readonly #options: SchedulerOptions;
  readonly #queue = new ReadQueue();
  readonly #requests = new Map<string, Request>();
  readonly #closing = new AbortController();
  readonly #running = new Set<Request>();
  /** Bytes that arrived, of them those from the repository, and how long anything was under way there. */
  #arrivedBytes = 0;
  #fetchedBytes = 0;
  #busyMs = 0;
  #busySince = 0;
  readonly #link = new LinkEstimate();
  /** When a read of the guest last had a slot. */
  #guestReadAt = Number.NEGATIVE_INFINITY;

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /** Whether guest reads and the relocation's take turns. */
  set relocating(value: boolean) {
    this.#queue.relocating = value;
    this.#start();
  }

  /** Requests that wait for a slot. */
  waiting(reason: ReadReason): number {
    return this.#queue.waiting(reason);
  }

  /** Requests that hold a slot. */
  running(reason: ReadReason): number {
    return [...this.#running].filter((request) => request.reason === reason).length;
  }

  /** Bytes of all blobs that arrived, wherever they came from. */
  get arrivedBytes(): number {
    return this.#arrivedBytes;
  }

  /** Bytes per second while the repository is read from; undefined until that says something. */
  get rate(): number | undefined {
    const now = this.#running.size === 0 ? 0 : this.#options.clock.monotonic() - this.#busySince;
    const busyMs = this.#busyMs + now;
    return this.#fetchedBytes < RATE_MINIMUM || busyMs <= 0 ? undefined : (1000 * this.#fetchedBytes) / busyMs;
  }

  /** The bytes of a blob that has arrived and is just being stored: lent until the caller's turn ends, to be read only. */
  arrived(id: string): Buffer | undefined {
    return this.#requests.get(id)?.arrived;
  }

  /**
   * Resolves when the blob's bytes have been used; rejects with an error that is final, or with what `use` throws.
   *
   * @param use is lent the bytes, which all who asked share, for as long as it runs: to be read only. They are gone afterwards: hundreds of
   *   megabytes that wait for the garbage collector make it run all the time, and its work is half of what staging costs
   */
  read(id: string, reason: "guest" | "relocation" | "boot", use: (content: Buffer) => void): Promise<void> {
    const request = this.#request(id, reason);
    const reader: Reader = { use, done: deferred() };
    if (request.arrived === undefined) request.readers.push(reader);
    else lend(request.arrived, reader);
    return reader.done.promise;
  }

  /**
   * Resolves when the blob was stored. Rejects with an error that is final; with one that may pass, where it meets this blob again and again while
   * others are had: whoever stages goes on with those.
   */
  stage(id: string, reason: "boot" | "readahead" | "hydrate" | "lead" | "peer" | "ahead"): Promise<void> {
    return this.#request(id, reason).stored.promise;
  }

  /** Resolves when the blob was stored, where it is on its way from the repository; undefined where it is not. */
  fetching(id: string): Promise<void> | undefined {
    const request = this.#requests.get(id);
    return request?.state === "running" ? request.stored.promise : undefined;
  }

  /** Rejects everything that waits; what runs is let run out. */
  close(reason: Error): void {
    this.#closing.abort(reason);
    for (const request of [...this.#requests.values()]) this.#fail(request, reason);
  }

  #request(id: string, reason: ReadReason): Request {
    this.#closing.signal.throwIfAborted();
    const known = this.#requests.get(id);
    if (known !== undefined) {
      if (isDemand(reason)) this.#options.observer.joined(known.reason);
      if (isMoreUrgent(reason, known.reason)) {
        known.reason = reason;
        if (known.state === "queued") this.#queue.add(id, reason);
        this.#start();
      }
      if (reason === "peer" && known.ask?.isFetched === true) this.#fetchInstead(known);
      if (reason === "guest") void this.#hurry(known);
      return known;
    }
    const request: Request = {
      id,
      reason,
      state: "queued",
      // Whoever fetches for another asks nobody: two that wait for one another would wait for good.
      ask: reason === "peer" ? undefined : this.#options.ask?.(id, reason),
      since: this.#options.clock.monotonic(),
      failures: 0,
      overtaken: 0,
      arrived: undefined,
      readers: [],
      stored: deferred(),
    };
    // Not every request has somebody who looks at it.
    request.stored.promise.catch(() => undefined);
    this.#requests.set(id, request);
    if (request.ask === undefined) this.#enqueue(request);
    else void this.#await(request, request.ask);
    return request;
  }

  async #await(request: Request, ask: Ask): Promise<void> {
    request.state = "asking";
    if (request.reason === "guest") void this.#hurry(request);
    try {
      const content = await ask.content;
      if (request.ask === ask) {
        request.state = "answered";
        await this.#arrive(request, content);
      }
      release(content);
    } catch (error) {
      if (request.state === "answered") this.#fail(request, error);
      else this.#fetchInstead(request);
    } finally {
      this.#endAsk(request, ask);
    }
  }

  /** A guest waits for it: it may take no longer than the repository would. */
  async #hurry(request: Request): Promise<void> {
    const { ask } = request;
    if (ask === undefined || request.state !== "asking") return;
    await this.#options.clock.sleep(ask.patienceMs, this.#closing.signal).catch(() => undefined);
    if (request.ask === ask) this.#fetchInstead(request);
  }

  /** Nobody else is waited for any longer. */
  #fetchInstead(request: Request): void {
    if (request.state !== "asking") return;
    if (request.ask !== undefined) this.#endAsk(request, request.ask);
    if (this.#requests.get(request.id) === request) this.#enqueue(request);
  }

  #endAsk(request: Request, ask: Ask): void {
    if (request.ask !== ask) return;
    request.ask = undefined;
    ask.end();
  }

  /** Gives a blob to those who wait for it, and stores it. */
  async #arrive(request: Request, content: Buffer): Promise<void> {
    this.#arrivedBytes += content.length;
    request.arrived = content;
    try {
      for (const reader of request.readers.splice(0)) lend(content, reader);
      await this.#options.store(request.id, content, request.reason);
    } finally {
      request.arrived = undefined;
    }
    if (this.#requests.get(request.id) === request) this.#requests.delete(request.id);
    request.stored.resolve();
  }

  #start(): void {
    for (;;) {
      const next = this.#queue.next(this.#slotUse());
      if (next === undefined) return;
      const request = this.#requests.get(next.id);
      if (request !== undefined) void this.#run(request);
    }
  }

  #slotUse(): SlotUse {
    const running = [...this.#running].map(({ reason }) => reason);
    const relocations = running.filter(isRelocations).length;
    const guestReads = this.running("guest") + this.waiting("guest");
    const share = relocationShare({
      guestReads,
      guestRequests: running.length - relocations + this.#queue.waitingForGuest,
      quietMs: guestReads > 0 ? 0 : this.#options.clock.monotonic() - this.#guestReadAt,
      filling: this.#link.filling,
    });
    return {
      free: this.#options.slots - running.length,
      runningDemand: running.filter(isDemand).length,
      relocationHeld: relocations >= share,
    };
  }

  async #run(request: Request): Promise<void> {
    const { clock, fetch, observer } = this.#options;
    const begun = clock.monotonic();
    if (this.#running.size === 0) this.#busySince = begun;
    this.#running.add(request);
    request.state = "running";
    observer.started(request.reason, begun - request.since);
    try {
      const content = await fetch(request.id);
      observer.finished(request.reason, clock.monotonic() - begun, content.length);
      this.#fetchedBytes += content.length;
      await this.#arrive(request, content);
      this.#link.ended(clock.monotonic(), clock.monotonic() - begun);
      release(content);
      this.#wakeAll();
    } catch (error) {
      observer.finished(request.reason, clock.monotonic() - begun, undefined);
      if (this.#options.isTransient(error)) void this.#rest(request, error);
      else this.#fail(request, error);
    } finally {
      this.#running.delete(request);
      if (request.reason === "guest") this.#guestReadAt = clock.monotonic();
      if (this.#running.size === 0) this.#busyMs += clock.monotonic() - this.#busySince;
      this.#start();
    }
  }

  #fail(request: Request, error: unknown): void {
    if (this.#requests.get(request.id) === request) this.#requests.delete(request.id);
    if (request.state === "asking" && request.ask !== undefined) this.#endAsk(request, request.ask);
    for (const { done } of request.readers.splice(0)) done.reject(error);
    request.stored.reject(error);
  }

  /** A failed request gives its slot back while it waits to be repeated. */
  async #rest(request: Request, error: unknown): Promise<void> {
    if (request.overtaken >= SINGLED_OUT && request.readers.length === 0) {
      this.#fail(request, error);
      return;
    }
    request.state = "resting";
    const pause = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(request.failures++, 10));
    await this.#options.clock.sleep(pause, this.#closing.signal).catch(() => undefined);
    if (this.#requests.get(request.id) === request && request.state === "resting") this.#enqueue(request);
  }

  /** The repository answers: what rests need not wait any longer, unless that has not helped it before. */
  #wakeAll(): void {
    for (const request of this.#requests.values()) {
      if (request.state !== "resting") continue;
      if (request.overtaken < SINGLED_OUT) this.#enqueue(request);
      request.overtaken++;
    }
  }

  #enqueue(request: Request): void {
    request.state = "queued";
    request.since = this.#options.clock.monotonic();
    this.#queue.add(request.id, request.reason);
    this.#start();
  }
}

function lend(content: Buffer, { use, done }: Reader): void {
  try {
    use(content);
    done.resolve();
  } catch (error) {
    done.reject(error);
  }
}
