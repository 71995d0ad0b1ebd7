import { Transform, type TransformCallback } from "node:stream";
import { ByteQueue } from "../../base/byte-queue.ts";

const MARK_BYTES = 4;
const LAST_FRAGMENT = 0x80000000;
/** A server's reply is no longer than its largest READ and a head. */
const LIMIT = 8 * 1024 * 1024;

/**
 * What an NFS server sends, each fragment of a record (RFC 5531, section 11) in one piece or not at all.
 *
 * libnfs, through which QEMU reads NFS, forgets nothing of a reply that broke off: it goes on with it over the next connection, takes other
 * bytes for its rest, and may come to ask the socket for no bytes at all, which it takes for the end of the connection. Then it connects and
 * asks for everything again, for good. A Linux kernel client begins each connection anew. So in the lab no reply breaks off.
 */
export class WholeReplies extends Transform {
  /** What is not whole yet; where the stream ends it stays here. */
  readonly #queue = new ByteQueue();

  override _transform(piece: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#queue.push(piece);
    while (this.#queue.length >= MARK_BYTES) {
      const wanted = MARK_BYTES + (this.#queue.peek(MARK_BYTES).readUInt32BE() & ~LAST_FRAGMENT);
      if (wanted > LIMIT) {
        done(new Error(`a reply of ${wanted} bytes`));
        return;
      }
      if (this.#queue.length < wanted) break;
      this.push(this.#queue.take(wanted));
    }
    done();
  }
}
