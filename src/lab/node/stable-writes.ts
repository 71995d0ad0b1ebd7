import { Transform, type TransformCallback } from "node:stream";

const NFS = { program: 100003, version: 3, write: 7 } as const;
const CALL = 0;
const UNSTABLE = 0;
const FILE_SYNC = 2;
const LAST_FRAGMENT = 0x80000000;
/** Largest legal authenticator (RFC 5531, section 8.2) and file handle (RFC 1813). */
const MAX_AUTHENTICATOR = 400;
const MAX_HANDLE = 64;
/** The `stable` field lies no farther from the beginning of a call than this. */
const CALL_HEAD = 24 + 2 * (8 + MAX_AUTHENTICATOR) + 4 + MAX_HANDLE + 8 + 4 + 4;

/**
 * What an NFSv3 client sends, with every WRITE asking for FILE_SYNC (RFC 1813, section 3.3.7).
 *
 * QEMU reads NFS through libnfs, which writes UNSTABLE and never compares the verifier of COMMIT with that of its writes: what a
 * server had not committed when it crashed is lost, though the guest's flush succeeded. A Linux kernel client writes it again. So
 * in the lab, where QEMU is the client, nothing is left uncommitted.
 */
export class StableWrites extends Transform {
  /** The beginning of a record, until it is long enough to be looked at. */
  #head: Buffer = Buffer.alloc(0);
  /** Bytes of the current fragment that are still to come; they pass as they are. */
  #rest = 0;
  /** Whether the next fragment begins a record. */
  #begins = true;

  override _transform(piece: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    let input = piece;
    while (input.length > 0) {
      if (this.#rest > 0) {
        const passed = input.subarray(0, this.#rest);
        this.#rest -= passed.length;
        input = input.subarray(passed.length);
        this.push(passed);
        continue;
      }
      const joined = this.#head.length === 0 ? input : Buffer.concat([this.#head, input]);
      const wanted = headLength(joined);
      if (joined.length < wanted) {
        this.#head = Buffer.from(joined);
        break;
      }
      this.#head = Buffer.alloc(0);
      const head = Buffer.from(joined.subarray(0, wanted));
      const mark = head.readUInt32BE();
      if (this.#begins) askForStable(head.subarray(4));
      this.#begins = (mark & LAST_FRAGMENT) !== 0;
      this.#rest = (mark & ~LAST_FRAGMENT) - (wanted - 4);
      this.push(head);
      input = joined.subarray(wanted);
    }
    done();
  }

  override _flush(done: TransformCallback): void {
    if (this.#head.length > 0) this.push(this.#head);
    done();
  }
}

/** Bytes of a fragment, mark included, that must be there before it can be looked at. */
function headLength(fragment: Buffer): number {
  return fragment.length < 4 ? 4 : 4 + Math.min(fragment.readUInt32BE() & ~LAST_FRAGMENT, CALL_HEAD);
}

/** Changes the call in place where it is an NFSv3 WRITE; leaves alone what is none or is malformed. */
function askForStable(call: Buffer): void {
  if (call.length < 24 || call.readUInt32BE(4) !== CALL) return;
  if (call.readUInt32BE(12) !== NFS.program || call.readUInt32BE(16) !== NFS.version) return;
  if (call.readUInt32BE(20) !== NFS.write) return;
  let at = 24;
  for (const most of [MAX_AUTHENTICATOR, MAX_AUTHENTICATOR, MAX_HANDLE]) {
    // Credential and verifier have a flavour before their length; the file handle has none.
    const lengthAt = most === MAX_HANDLE ? at : at + 4;
    if (lengthAt + 4 > call.length) return;
    const length = call.readUInt32BE(lengthAt);
    if (length > most) return;
    at = lengthAt + 4 + Math.ceil(length / 4) * 4;
  }
  const stableAt = at + 12;
  if (stableAt + 4 <= call.length && call.readUInt32BE(stableAt) === UNSTABLE) call.writeUInt32BE(FILE_SYNC, stableAt);
}
