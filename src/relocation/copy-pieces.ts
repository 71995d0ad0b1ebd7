import type { FairSlots } from "./fair-slots.ts";
import type { SourceRun } from "./source.ts";
import type { TokenBucket } from "./token-bucket.ts";

/** Bytes of one read. About a chunk of the backup, so that no chunk is needed for long. */
export const DATA_PIECE = 1024 * 1024;
/** Zeros are only looked at in the target. */
const ZERO_PIECE = 16 * 1024 * 1024;

export interface PieceHandlers {
  readonly slots: FairSlots;
  /** How far this disk has come, 0 to 1. */
  readonly fraction: () => number;
  /** Where set, bytes of data pass at its rate. */
  readonly bucket: Pick<TokenBucket, "take"> | undefined;
  /** Called in order when a piece is begun; what it gives back, when that piece is done. */
  readonly begin: (piece: SourceRun) => () => void;
  readonly copy: (piece: SourceRun) => Promise<void>;
}

/**
 * Copies runs in pieces, several at once. The first failure ends it when everything under way has come to an end.
 *
 * @throws what a piece threw, or the signal's reason
 */
export async function copyPieces(
  runs: AsyncIterable<SourceRun>,
  { slots, fraction, bucket, begin, copy }: PieceHandlers,
  signal: AbortSignal,
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  const start = (piece: SourceRun): void => {
    const done = begin(piece);
    const task = copy(piece)
      .then(done, (error: unknown) => {
        failure ??= { error };
      })
      .finally(() => {
        slots.release();
        underWay.delete(task);
      });
    underWay.add(task);
  };
  try {
    for await (const run of runs) {
      const length = run.matters ? DATA_PIECE : ZERO_PIECE;
      for (const piece of cut(run, length)) {
        await slots.acquire(fraction, signal);
        try {
          if (run.matters) await bucket?.take(piece.length, signal);
          signal.throwIfAborted();
          if (failure !== undefined) throw failure.error;
        } catch (error) {
          slots.release();
          throw error;
        }
        start(piece);
      }
    }
  } finally {
    await Promise.all(underWay);
  }
  if (failure !== undefined) throw failure.error;
}

/** Pieces of at most `length` bytes that end at its multiples. */
function* cut(run: SourceRun, length: number): Generator<SourceRun> {
  const end = run.offset + run.length;
  for (let at = run.offset; at < end; ) {
    const next = Math.min(end, (Math.floor(at / length) + 1) * length);
    yield { offset: at, length: next - at, matters: run.matters };
    at = next;
  }
}
