import type { Clock } from "../base/clock.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { CopiedPrefix } from "./copied-prefix.ts";
import { copyPieces } from "./copy-pieces.ts";
import type { FairSlots } from "./fair-slots.ts";
import type { Progress } from "./progress.ts";
import type { Source, SourceRun } from "./source.ts";
import type { Target } from "./target.ts";
import type { TokenBucket } from "./token-bucket.ts";

/** How often the target is synced and the cursor told. Milliseconds. */
const SYNC_EVERY_MS = 2_000;

export interface PassContext {
  readonly source: Pick<Source, "read" | "allocation" | "dirty" | "flush">;
  readonly target: Pick<Target, "heldBackFrom" | "write" | "writeZeroes" | "sync">;
  readonly progress: Progress;
  readonly slots: FairSlots;
  /** Buffers that hold a piece. */
  readonly buffers: BufferPool;
  readonly bucket: Pick<TokenBucket, "take"> | undefined;
  readonly clock: Clock;
}

/**
 * Copies what holds data, from the durable cursor on, in ascending order. What is told was synced at the
 * target first, and before that flushed at the agent: see {@link Source.flush}.
 *
 * @param isZeroed whether the target is known to read as zeros from the cursor on
 */
export async function firstPass(context: PassContext, isZeroed: boolean, signal: AbortSignal): Promise<void> {
  const { source, target, progress } = context;
  const from = progress.told.cursor;
  const { below, total } = await survey(source, from, target.heldBackFrom, signal);
  const prefix = new CopiedPrefix(from, below);
  await progress.tell({ state: "FirstPass", bytesTotal: total, bytesDurable: below }, signal);

  // Ends either side when the other one fails; a report under way is left to end by itself, so that none comes late.
  const abort = new AbortController();
  const both = AbortSignal.any([signal, abort.signal]);
  const syncing = syncNowAndThen(context, prefix, total, both, signal).catch((error: unknown) => abort.abort(error));
  try {
    await copyPieces(
      source.allocation(from, target.heldBackFrom),
      {
        ...context,
        fraction: () => (total === 0 ? 1 : prefix.bytes / total),
        begin: (piece) => prefix.begin(piece.offset + piece.length, piece.matters ? piece.length : 0),
        copy: (piece) => copyPiece(context, piece, isZeroed),
      },
      both,
    );
  } finally {
    abort.abort(new Error("the first pass ended"));
    await syncing;
  }
  await source.flush();
  await target.sync();
  progress.count(Math.max(0, prefix.bytes - progress.told.bytesDurable));
  const bytesTotal = prefix.bytes;
  await progress.tell(
    { state: "Converging", cursor: target.heldBackFrom, bytesTotal, bytesDurable: bytesTotal },
    signal,
  );
}

async function copyPiece({ source, target, buffers }: PassContext, piece: SourceRun, isZeroed: boolean): Promise<void> {
  const { offset, length, matters } = piece;
  if (matters) {
    await buffers.use(async (buffer) => target.write(offset, await source.read(offset, length, buffer), isZeroed));
  } else if (!isZeroed) await target.writeZeroes(offset, length);
}

/** Bytes that hold data: below the cursor, and everywhere. Guest writes change it a little meanwhile. */
async function survey(
  source: PassContext["source"],
  cursor: number,
  end: number,
  signal: AbortSignal,
): Promise<{ below: number; total: number }> {
  let below = 0;
  let total = 0;
  for await (const run of source.allocation(0, end)) {
    signal.throwIfAborted();
    if (!run.matters) continue;
    total += run.length;
    below += Math.max(0, Math.min(run.offset + run.length, cursor) - run.offset);
  }
  return { below, total };
}

async function syncNowAndThen(
  { source, target, progress, clock }: PassContext,
  prefix: CopiedPrefix,
  total: number,
  ended: AbortSignal,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await clock.sleep(SYNC_EVERY_MS, ended).catch(() => undefined);
    if (ended.aborted) return;
    // Taken before the sync: what is copied while it runs may not be covered by it.
    const { mark, bytes } = prefix;
    await source.flush();
    await target.sync();
    progress.count(Math.max(0, bytes - progress.told.bytesDurable));
    await progress.tell({ cursor: mark, bytesDurable: bytes, bytesTotal: Math.max(total, bytes) }, signal);
  }
}
