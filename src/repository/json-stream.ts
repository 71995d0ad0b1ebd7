import { JsonScanner } from "./json-scanner.ts";

/** A text in pieces, of which only one is held at a time. */
export type Pieces = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Where reading waits for more. */
export type Reading<T = void> = Generator<undefined, T, undefined>;

const FIRST_WINDOW = 256 * 1024;
/** A value that does not fit in so much is tried again only when twice as much has arrived. */
const PATIENCE = 64 * 1024;

/**
 * JSON that arrives in pieces, of which little is held at a time. What reads it are generators: they yield where what has arrived does
 * not hold all of the value that they are at, and begin it anew when there is more. So what reads a single value must be able to
 * begin again; and an error in the text shows when all of it has arrived.
 */
export class JsonStream {
  readonly json = new JsonScanner(new Uint8Array(0), true);
  #window = new Uint8Array(FIRST_WINDOW);
  #filled = 0;
  #wanted = 0;
  #isComplete = false;

  /** Adds a piece, which is copied. Gives back whether it is worth going on reading. */
  push(piece: Uint8Array): boolean {
    const from = this.json.position;
    const length = this.#filled - from + piece.length;
    if (from > 0) this.#window.copyWithin(0, from, this.#filled);
    if (length > this.#window.length) {
      const larger = new Uint8Array(2 * length);
      larger.set(this.#window.subarray(0, this.#filled - from));
      this.#window = larger;
    }
    this.#window.set(piece, this.#filled - from);
    this.#filled = length;
    this.json.moveTo(this.#window.subarray(0, length), from);
    return length >= this.#wanted;
  }

  /** Nothing more comes. */
  finish(): void {
    this.#isComplete = true;
    this.json.isPartial = false;
  }

  /** Reads one value, or one part of one, which `read` may have to begin again. */
  *step<T>(read: () => T): Reading<T> {
    for (;;) {
      const at = this.json.position;
      try {
        return read();
      } catch (error) {
        this.#starve(error, at);
      }
      yield;
    }
  }

  /** See `JsonScanner.object`. */
  *object(keys: readonly Uint8Array[], member: (key: number) => Reading): Reading {
    const { json } = this;
    if (!(yield* this.step(() => json.enter()))) return;
    do yield* member(yield* this.step(() => json.key(keys, 0)));
    while (yield* this.step(() => json.next()));
  }

  /** See `JsonScanner.array`. */
  *array(element: () => Reading): Reading {
    const { json } = this;
    if (!(yield* this.step(() => json.enterArray()))) return;
    do yield* element();
    while (yield* this.step(() => json.nextElement()));
  }

  /** An array of many elements that are small; `element` may have to begin again. */
  *list(element: () => void): Reading {
    const { json } = this;
    if (!(yield* this.step(() => json.enterArray()))) return;
    let isBetween = false;
    for (;;) {
      let at = json.position;
      try {
        for (;;) {
          if (isBetween && !json.nextElement()) return;
          isBetween = false;
          at = json.position;
          element();
          isBetween = true;
          at = json.position;
        }
      } catch (error) {
        this.#starve(error, at);
      }
      yield;
    }
  }

  /** Reads any value and forgets it. */
  skip(): Reading {
    return this.step(() => this.json.skip());
  }

  /** Nothing but white space may follow. */
  end(): Reading {
    return this.step(() => this.json.end());
  }

  /** Goes back to where the value begins; throws where nothing more comes that could mend it. */
  #starve(error: unknown, at: number): void {
    if (!(error instanceof SyntaxError) || this.#isComplete) throw error;
    this.json.position = at;
    const rest = this.#filled - at;
    this.#wanted = rest > PATIENCE ? 2 * rest : 0;
  }
}

/**
 * What a reading of the stream makes of the pieces.
 *
 * @throws SyntaxError, and whatever the pieces throw
 */
export async function readPieces<T>(stream: JsonStream, reading: Reading<T>, pieces: Pieces): Promise<T> {
  for await (const piece of pieces) {
    if (stream.push(piece)) reading.next();
  }
  stream.finish();
  const last = reading.next();
  if (last.done !== true) throw new SyntaxError("expected more");
  return last.value;
}
