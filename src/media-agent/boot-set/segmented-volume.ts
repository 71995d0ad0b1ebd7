import type { Extent } from "../../disk/block-device.ts";
import { BudgetSpentError, type Volume } from "./bounded-disk.ts";

/** A run of a volume that lies on another in one piece, or in stripes. */
export interface Segment extends Extent {
  /** Where each stripe begins on the volume below; undefined where it lies elsewhere. */
  readonly stripes: readonly (number | undefined)[];
  /** Bytes of one stripe before the next has its turn. */
  readonly stripeBytes: number;
}

/** Pieces that one look at a volume may fall into. */
const PIECES = 65_536;

/** Of all looks at the volumes of a group: 384 MiB in the smallest stripes that anybody makes are 100,000. */
const PIECES_IN_ALL = 262_144;

/** How many pieces may still be looked at, those included that lie elsewhere and cost no read. */
export interface PieceBudget {
  left: number;
}

export function pieceBudget(): PieceBudget {
  return { left: PIECES_IN_ALL };
}

/**
 * A volume made of segments of another one, by offset. What lies in none of them, or elsewhere, cannot be read.
 *
 * @param budget what is spent throws BudgetSpentError
 */
export function segmentedVolume(below: Volume, segments: readonly Segment[], budget = pieceBudget()): Volume {
  const last = segments.at(-1);
  return {
    size: last === undefined ? 0 : last.offset + last.length,
    async read(offset, length) {
      const pieces: Buffer[] = [];
      let bytes = 0;
      for (const { at, length: piece } of pieceList(segments, offset, length, budget)) {
        const content = at === undefined ? undefined : await below.read(at, piece);
        if (content === undefined) return undefined;
        bytes += piece;
        pieces.push(content);
      }
      if (bytes !== length) return undefined;
      return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
    },
    *places({ offset, length }) {
      for (const { at, length: piece } of pieceList(segments, offset, length, budget)) {
        if (at !== undefined) yield* below.places({ offset: at, length: piece });
      }
    },
  };
}

/** Where the pieces of an extent lie below, in order; ends where the segments have a gap. */
function* pieceList(
  segments: readonly Segment[],
  offset: number,
  length: number,
  budget: PieceBudget,
): Generator<{ readonly at: number | undefined; readonly length: number }> {
  let at = offset;
  for (let count = 0; at < offset + length && count < PIECES; count++) {
    if (budget.left-- <= 0) throw new BudgetSpentError("the volume's stripes are too many");
    const segment = segmentAt(segments, at);
    if (segment === undefined) return;
    const within = at - segment.offset;
    const turn = Math.floor(within / segment.stripeBytes);
    const row = Math.floor(turn / segment.stripes.length);
    const start = segment.stripes[turn % segment.stripes.length];
    const inStripe = within - turn * segment.stripeBytes;
    const piece = Math.min(segment.stripeBytes - inStripe, segment.length - within, offset + length - at);
    yield { at: start === undefined ? undefined : start + row * segment.stripeBytes + inStripe, length: piece };
    at += piece;
  }
}

function segmentAt(segments: readonly Segment[], offset: number): Segment | undefined {
  let low = 0;
  let high = segments.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((segments[middle]?.offset ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  const segment = segments[low];
  const isWithin = segment !== undefined && segment.offset <= offset && offset < segment.offset + segment.length;
  return isWithin ? segment : undefined;
}
