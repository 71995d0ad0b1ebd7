const MIB = 1024 * 1024;
/** QEMU's mirror reads 1 MiB at a time where it may; an NFS client cuts that to its rsize. A guest's own reads are smaller. */
const BLOCK = 256 * 1024;
/** QEMU keeps 16 reads of 1 MiB under way, which arrive out of order. */
const IN_FLIGHT = 16 * MIB;
const SLACK = 2 * IN_FLIGHT;
/** Of so many bytes, a copy leaves out few. Much more than what is under way. */
const WINDOW = 128 * MIB;
/** A run from the disk's beginning is a copy once it is this long. */
const FROM_START = WINDOW;
/** One from elsewhere, which this process may have met half-way, once it is this long. */
const FROM_ELSEWHERE = 1024 * MIB;
const RUNS = 8;

interface Run {
  start: number;
  end: number;
  /** Where the present window begins, and the bytes of all reads since, as far as they are not the same again and again. */
  window: number;
  covered: number;
}

/**
 * Tells the reads of a whole disk's copy (a live migration's mirror) from those of the guest, which come through the same export:
 * a copy reads the disk from its beginning, in order, in large blocks, and leaves little out. Random reads between its own
 * change nothing.
 *
 * A guest that reads its own disk like that (a backup program inside it) is taken for a copy: it is served like one, after
 * small reads.
 */
export class CopyStream {
  readonly #fromStart: number;
  /** The last used is the last. */
  readonly #runs: Run[] = [];

  /** @param size bytes of the disk */
  constructor(size: number) {
    this.#fromStart = Math.min(FROM_START, size / 2);
  }

  /** Whether this read belongs to a copy; takes note of it. */
  isCopy(offset: number, length: number): boolean {
    if (length < BLOCK) return false;
    const index = this.#runs.findIndex(({ end }) => offset >= end - SLACK && offset <= end + SLACK);
    const [run = { start: offset, end: offset, window: offset, covered: 0 }] =
      index < 0 ? [] : this.#runs.splice(index, 1);
    run.end = Math.max(run.end, offset + length);
    const passed = run.end - run.window;
    run.covered = Math.min(run.covered + length, passed + IN_FLIGHT);
    if (passed >= WINDOW) {
      // It leaves out much: whatever comes of it begins here.
      if (run.covered < 0.7 * passed) run.start = run.end;
      run.window = run.end;
      run.covered = 0;
    }
    this.#runs.push(run);
    if (this.#runs.length > RUNS) this.#runs.shift();
    return run.end - run.start >= (run.start < SLACK ? this.#fromStart : FROM_ELSEWHERE);
  }
}
