import type { Socket } from "node:net";
import { AdaptivePoll } from "../base/adaptive-poll.ts";
import { bufferBytes } from "../base/read-buffers.ts";
import { Arrival } from "./arrival.ts";
import { CallLane } from "./call-lane.ts";
import { Dispatcher, MOUNT, NFS } from "./dispatcher.ts";
import { MOUNT_PROCEDURE } from "./mount.ts";
import { failWithAttributes, TRANSFER_LIMIT } from "./procedures/procedure.ts";
import { readLength } from "./procedures/read.ts";
import { PROCEDURE } from "./procedures/table.ts";
import { RecordReader } from "./record-reader.ts";
import { ReplySender } from "./reply-sender.ts";
import { ACCEPT, acceptedReply, KnownCredentials, parseCall, type RpcCall, RpcDeniedError } from "./rpc.ts";
import type { ServedExport } from "./served-export.ts";
import type { NfsServer } from "./server.ts";
import { NFS3 } from "./status.ts";

/** The largest WRITE and its head. */
const RECORD_LIMIT = TRANSFER_LIMIT + 4096;
/** Reads, and writes, that one connection may have under way, and the bytes of their data. */
const LANE_LIMITS = { calls: 256, bytes: 16 * 1024 * 1024 };
/** Answers that the client has not taken yet. */
const UNSENT_LIMIT = 8 * 1024 * 1024;
/** Calls that were read but may not begin; bytes likewise. Beyond, nothing is read from the socket. */
const QUEUED_CALLS = 256;
const QUEUED_BYTES = 2 * 1024 * 1024;
/** Of a record that is not complete, from a client that has shown neither path nor handle. */
const STRANGERS_BYTES = 128 * 1024;
/** Reads that were answered with "try later" and still go on, and their bytes. Beyond, answers come late instead. */
const PUT_OFF_READS = 64;
const PUT_OFF_BYTES = 4 * 1024 * 1024;

/** Milliseconds. */
const STRANGER_LIMIT_MS = 60_000;
const HALF_RECORD_LIMIT_MS = 60_000;
const STALL_LIMIT_MS = 120_000;

interface ReceivedRecord {
  readonly record: Buffer;
  /** It may have waited since then. */
  readonly since: number;
}

interface QueuedCall extends ReceivedRecord {
  readonly call: RpcCall;
  readonly bytes: number;
}

interface RunningRead {
  readonly since: number;
  readonly bytes: number;
  putOff: boolean;
}

/**
 * One client's TCP connection: many calls at once, answered as they finish, bounded in number and bytes. Reads and writes go in
 * lanes of their own, so that reads that wait for the repository hold up no write. Writes begin in the order in which they came.
 */
export class NfsConnection {
  readonly #socket: Socket;
  readonly #server: NfsServer;
  readonly #reader = new RecordReader(RECORD_LIMIT);
  readonly #dispatcher: Dispatcher;
  readonly #credentials = new KnownCredentials();
  readonly #replies: ReplySender;
  readonly #reads: CallLane;
  readonly #writes: CallLane;
  /** Calls as they came, not looked at: at most those of one read from the socket. */
  #records: ReceivedRecord[] = [];
  #queuedReads: QueuedCall[] = [];
  #queuedWrites: QueuedCall[] = [];
  #queuedBytes = 0;
  /** By XID, the oldest first. */
  readonly #running = new Map<number, RunningRead>();
  #putOffReads = 0;
  #putOffBytes = 0;
  /** Bytes of reads that were handed to the socket and are not with the client. */
  #unsentBytes = 0;
  /** Calls that were begun and are not answered. */
  #underWay = 0;
  /** Set once no call may begin any more: called when none is under way. */
  #drained: (() => void) | undefined;
  readonly #arrival: Arrival;
  readonly #poll = new AdaptivePoll();
  /** The same for the beginning of a record that is not whole. */
  #partialSince = 0;
  readonly #opened: number;
  /** Bytes that the client has taken, and sent, and when that was last seen to grow. */
  #sent: { bytes: number; at: number };
  #received: { bytes: number; at: number };

  constructor(socket: Socket, server: NfsServer) {
    this.#socket = socket;
    this.#server = server;
    this.#opened = server.now();
    this.#sent = { bytes: 0, at: this.#opened };
    this.#received = { bytes: 0, at: this.#opened };
    this.#arrival = new Arrival(server.kernelBytes);
    this.#dispatcher = new Dispatcher(server);
    this.#replies = new ReplySender(socket, server.buffers, () => {
      if (this.isProven) server.answered();
      if (this.#underWay === 0) this.#poll.answered();
    });
    const wake = (): void => this.#proceed();
    this.#reads = new CallLane(LANE_LIMITS, server.readBudget, wake);
    this.#writes = new CallLane(LANE_LIMITS, server.writeBudget, wake);
    socket.on("data", (piece) => this.#receive(piece));
    socket.on("drain", () => {
      this.#giveUnsent();
      this.#proceed();
    });
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#closed());
  }

  /** Whether the client has shown a path or a handle that was made here. */
  get isProven(): boolean {
    return this.#dispatcher.proven;
  }

  closeIfUsed(served: ServedExport): void {
    if (this.#dispatcher.used.has(served)) this.destroy();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Begins no more calls, answers those under way, and closes then. Resolves when it is closed. */
  drain(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#socket.once("close", () => resolve()));
    // Answers leave at the end of a turn.
    this.#drained = () => setImmediate(() => this.#socket.end(() => this.#socket.destroy()));
    this.#proceed();
    return this.#socket.destroyed ? Promise.resolve() : closed;
  }

  /** Looks after clients that hold something up, and after reads that wait too long. Called again and again. */
  sweep(now: number): void {
    const socket = this.#socket;
    const sent = socket.bytesWritten - socket.writableLength;
    if (sent !== this.#sent.bytes || socket.writableLength === 0) this.#sent = { bytes: sent, at: now };
    if (socket.bytesRead !== this.#received.bytes || this.#reader.pending === 0 || socket.isPaused())
      this.#received = { bytes: socket.bytesRead, at: now };
    const isStranger = !this.#dispatcher.proven && now - this.#opened > STRANGER_LIMIT_MS;
    if (isStranger || now - this.#sent.at > STALL_LIMIT_MS || now - this.#received.at > HALF_RECORD_LIMIT_MS) {
      this.#server.counters.abandoned++;
      this.destroy();
      return;
    }
    for (const [xid, read] of this.#running) {
      if (now - read.since < this.#server.patienceMs) break;
      this.#putOff(xid, read);
    }
  }

  #receive(piece: Buffer): void {
    this.#poll.arrived();
    const arrived = this.#arrival.read(piece.length, this.#server.lastSweep);
    if (this.#reader.pending === 0) this.#partialSince = arrived;
    try {
      for (const record of this.#reader.push(piece)) {
        this.#records.push({ record, since: this.#partialSince });
        this.#partialSince = arrived;
      }
    } catch {
      this.destroy(); // whoever breaks record marking cannot be answered
      return;
    }
    this.#proceed();
    if (this.#reader.pending > STRANGERS_BYTES && !this.#dispatcher.proven) this.#question();
  }

  /** A large record from a client that has shown nothing yet: its head must bear one of our handles. */
  #question(): void {
    try {
      const { program, args } = parseCall(this.#reader.beginning(4096));
      const length = args.u32be();
      if (program === NFS && length <= 64 && this.#dispatcher.resolve(args.bytes(length)) !== undefined) return;
    } catch {
      // no call, or no handle
    }
    this.destroy();
  }

  /** Begins what may begin, and reads on only when nothing is in the way. */
  #proceed(): void {
    if (this.#socket.destroyed) return;
    if (this.#drained !== undefined) {
      this.#socket.pause();
      if (this.#underWay === 0) this.#drained();
      return;
    }
    this.#beginQueued(this.#queuedReads, this.#reads);
    this.#beginQueued(this.#queuedWrites, this.#writes);
    while (this.#records.length > 0 && !this.#isFull) this.#take(this.#records.shift() as ReceivedRecord);
    const isBlocked = this.#records.length > 0 || this.#isFull;
    if (isBlocked && !this.#socket.isPaused()) {
      this.#arrival.paused(this.#server.lastSweep);
      this.#socket.pause();
    } else if (!isBlocked && this.#socket.isPaused()) this.#socket.resume();
  }

  get #isFull(): boolean {
    return (
      this.#socket.destroyed ||
      this.#socket.writableLength >= UNSENT_LIMIT ||
      this.#queuedBytes >= QUEUED_BYTES ||
      this.#queuedReads.length + this.#queuedWrites.length >= QUEUED_CALLS
    );
  }

  #take({ record, since }: ReceivedRecord): void {
    let call: RpcCall;
    try {
      call = parseCall(record, this.#credentials);
    } catch (error) {
      if (error instanceof RpcDeniedError) this.#replies.send([error.reply]);
      else this.destroy();
      return;
    }
    this.#server.counters.calls++;
    const procedure = call.program === NFS ? call.procedure : 0;
    const isMount = call.program === MOUNT && call.procedure === MOUNT_PROCEDURE.mnt;
    // What was sent again while the first is under way asks for no place of its own: a client that waits for long sends everything again,
    // time after time, and would fill the lanes and then the queue with it.
    const isWrite = procedure === PROCEDURE.write;
    if (procedure === PROCEDURE.read) {
      if (this.#running.has(call.xid)) return;
      const bytes = bufferBytes(readLength(record, call.args.offset));
      this.#enter(this.#queuedReads, this.#reads, { call, record, since, bytes });
    } else if (isWrite && this.#dispatcher.isUnderWay(call, record)) {
      this.#begin({ call, record, since, bytes: 0 }, undefined);
    } else if (isWrite || procedure === PROCEDURE.commit || isMount)
      this.#enter(this.#queuedWrites, this.#writes, { call, record, since, bytes: record.length });
    else this.#begin({ call, record, since, bytes: 0 }, undefined);
  }

  #enter(queue: QueuedCall[], lane: CallLane, received: QueuedCall): void {
    if (queue.length === 0 && lane.begin(received.bytes)) {
      this.#begin(received, lane);
      return;
    }
    if (queue.some(({ record }) => record.equals(received.record))) return;
    queue.push(received);
    this.#queuedBytes += received.record.length;
  }

  #beginQueued(queue: QueuedCall[], lane: CallLane): void {
    while (queue.length > 0) {
      const first = queue[0] as QueuedCall;
      if (this.#socket.writableLength >= UNSENT_LIMIT || !lane.begin(first.bytes)) return;
      queue.shift();
      this.#queuedBytes -= first.record.length;
      this.#begin(first, lane);
    }
  }

  /** @param lane which has let it in */
  #begin(received: QueuedCall, lane: CallLane | undefined): void {
    const { call, bytes } = received;
    const answer = this.#answer(received, lane);
    if (!(answer instanceof Promise)) {
      lane?.end();
      this.#replies.send(answer);
      lane?.give(bytes);
      return;
    }
    this.#underWay++;
    if (lane === this.#reads) this.#awaitRead(call.xid, answer, bytes);
    else this.#await(answer, lane, bytes);
  }

  #answer({ call, record, since }: QueuedCall, lane: CallLane | undefined): Buffer[] | Promise<Buffer[]> {
    // Two calls of one XID: the first one's answer is the answer.
    if (lane === this.#reads && this.#running.has(call.xid)) return [];
    if (lane === this.#writes && since <= this.#server.duplicates.forgottenUntil) {
      // It may have been sent again, carried out and forgotten while it waited here. The client sends what it still wants answers to
      // over its next connection.
      this.destroy();
      return [];
    }
    try {
      return this.#dispatcher.answer(call, record);
    } catch {
      this.destroy(); // another server's handle: its client shall find the right one
      return [];
    }
  }

  #await(answer: Promise<Buffer[]>, lane: CallLane | undefined, bytes: number): void {
    answer
      .then((pieces) => this.#replies.send(pieces), this.#broke)
      .then(() => {
        this.#underWay--;
        lane?.end();
        lane?.give(bytes);
        this.#proceed();
      });
  }

  #awaitRead(xid: number, answer: Promise<Buffer[]>, bytes: number): void {
    const read: RunningRead = { since: this.#server.lastSweep, bytes, putOff: false };
    this.#running.set(xid, read);
    answer.then(
      (pieces) => this.#finishRead(xid, read, pieces),
      (error: unknown) => {
        this.#finishRead(xid, read, undefined);
        this.#broke(error);
      },
    );
  }

  #finishRead(xid: number, read: RunningRead, pieces: Buffer[] | undefined): void {
    this.#underWay--;
    if (read.putOff) {
      this.#putOffReads--;
      this.#putOffBytes -= read.bytes;
      this.#reads.give(read.bytes);
    } else {
      this.#running.delete(xid);
      this.#reads.end();
      if (pieces !== undefined) this.#replies.send(pieces);
      this.#unsentBytes += read.bytes;
      if (!this.#socket.writableNeedDrain || this.#socket.destroyed) this.#giveUnsent();
    }
    this.#proceed();
  }

  /** "Try later", before the client's own patience ends and it sends the call again. The read goes on, for the cache. */
  #putOff(xid: number, read: RunningRead): void {
    if (this.#putOffReads >= PUT_OFF_READS || this.#putOffBytes + read.bytes > PUT_OFF_BYTES) return;
    this.#running.delete(xid);
    read.putOff = true;
    this.#putOffReads++;
    this.#putOffBytes += read.bytes;
    this.#reads.end();
    this.#server.counters.putOff++;
    const reply = acceptedReply(xid, ACCEPT.success);
    failWithAttributes(reply, NFS3.jukebox, undefined);
    this.#replies.send([reply.finish()]);
    this.#proceed();
  }

  readonly #broke = (error: unknown): void => {
    this.#server.report(error);
    this.destroy();
  };

  #giveUnsent(): void {
    const bytes = this.#unsentBytes;
    if (bytes === 0) return;
    this.#unsentBytes = 0;
    this.#reads.give(bytes);
  }

  #closed(): void {
    this.#dispatcher.close();
    this.#replies.close();
    this.#records = [];
    this.#queuedReads = [];
    this.#queuedWrites = [];
    this.#queuedBytes = 0;
    this.#reads.close();
    this.#writes.close();
    this.#giveUnsent();
  }
}
