import type { Socket } from "node:net";
import { GATHERED_BYTES, type ReplyBuffers } from "./reply-buffers.ts";

const LAST_FRAGMENT = 0x80000000;
const MARK_BYTES = 4;
/** A reply of so many bytes at most is copied beside others: what a guest's page takes. */
const COPIED_REPLY = 8192;

/** Hands replies to one client's socket, each as a record of one fragment (RFC 5531, 11): those that are ready together leave together. */
export class ReplySender {
  readonly #socket: Socket;
  readonly #buffers: ReplyBuffers;
  readonly #onReplies: () => void;
  #corked = false;
  #flushes = false;
  /** Short replies that leave at the end of this turn, and how much of it they take. */
  #gathered: Buffer | undefined;
  #gatheredBytes = 0;

  /** @param onReplies called where replies leave, once for those that leave together */
  constructor(socket: Socket, buffers: ReplyBuffers, onReplies: () => void) {
    this.#socket = socket;
    this.#buffers = buffers;
    this.#onReplies = onReplies;
  }

  /** @param pieces of one reply, in buffers that are given back when the client has them; none where nothing is to be said */
  send(pieces: readonly Buffer[]): void {
    if (this.#socket.destroyed || pieces.length === 0) return;
    if (!this.#flushes) {
      // Answers that are ready together leave together.
      this.#flushes = true;
      process.nextTick(this.#flush);
    }
    let length = 0;
    for (const piece of pieces) length += piece.length;
    // For a client that does not keep up, nothing is held twice.
    if (length <= COPIED_REPLY && !this.#socket.writableNeedDrain) this.#gather(pieces, length);
    else this.#sendPieces(pieces, length);
  }

  /** Each piece that is handed to a socket costs more than copying 4 KiB. */
  #gather(pieces: readonly Buffer[], length: number): void {
    const buffers = this.#buffers;
    if (this.#gatheredBytes + MARK_BYTES + length > GATHERED_BYTES) this.#sendGathered();
    this.#gathered ??= buffers.gather();
    this.#gathered.writeUInt32BE((LAST_FRAGMENT | length) >>> 0, this.#gatheredBytes);
    let at = this.#gatheredBytes + MARK_BYTES;
    for (const piece of pieces) {
      this.#gathered.set(piece, at);
      at += piece.length;
      buffers.copied(piece);
    }
    this.#gatheredBytes = at;
  }

  #sendGathered(): void {
    const buffer = this.#gathered;
    if (buffer === undefined) return;
    const bytes = this.#gatheredBytes;
    this.#gathered = undefined;
    this.#gatheredBytes = 0;
    const buffers = this.#buffers;
    if (this.#socket.destroyed) buffers.gathered(buffer);
    else this.#socket.write(buffer.subarray(0, bytes), (error) => buffers.gathered(buffer, error));
  }

  readonly #flush = (): void => {
    this.#flushes = false;
    this.#onReplies();
    this.#sendGathered();
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  };

  #sendPieces(pieces: readonly Buffer[], length: number): void {
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
    }
    this.#sendGathered();
    const [head, ...rest] = pieces;
    // Marked in one piece with the reply's head, which is short: each piece costs as much as copying a few hundred bytes.
    const marked = Buffer.allocUnsafe(MARK_BYTES + (head?.length ?? 0));
    marked.writeUInt32BE((LAST_FRAGMENT | length) >>> 0);
    head?.copy(marked, MARK_BYTES);
    this.#socket.write(marked);
    for (const piece of rest) this.#socket.write(piece, this.#buffers.whenSent(piece));
  }

  /** Once the socket is closed: nothing that was gathered is held back. */
  close(): void {
    this.#sendGathered();
  }
}
