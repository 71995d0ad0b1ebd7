import { Transform, type TransformCallback } from "node:stream";

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
  #pieces: Buffer[] = [];
  #bytes = 0;
  /** Bytes of the fragment that has begun, mark included; unknown until the mark is there. */
  #wanted: number | undefined;

  override _transform(piece: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    while (this.#bytes >= (this.#wanted ?? MARK_BYTES)) {
      const joined = this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces);
      this.#keep(joined);
      if (this.#wanted === undefined) {
        this.#wanted = MARK_BYTES + (joined.readUInt32BE() & ~LAST_FRAGMENT);
        if (this.#wanted <= LIMIT) continue;
        done(new Error(`a reply of ${this.#wanted} bytes`));
        return;
      }
      this.push(joined.subarray(0, this.#wanted));
      this.#keep(joined.subarray(this.#wanted));
      this.#wanted = undefined;
    }
    done();
  }

  #keep(rest: Buffer): void {
    this.#pieces = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
  }

  override _flush(done: TransformCallback): void {
    done(); // what is not whole stays here
  }
}
