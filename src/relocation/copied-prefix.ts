interface Piece {
  readonly end: number;
  readonly bytes: number;
  isDone: boolean;
}

/** Pieces that are begun in order and end in any order: how far everything is done, and how many data bytes that were. */
export class CopiedPrefix {
  readonly #pieces: Piece[] = [];
  #mark: number;
  #bytes: number;

  /** @param mark where the first piece begins. @param bytes what counts as done below it */
  constructor(mark: number, bytes: number) {
    this.#mark = mark;
    this.#bytes = bytes;
  }

  /** Everything below it is done. */
  get mark(): number {
    return this.#mark;
  }

  /** Data bytes below {@link mark}. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * @param end where the piece ends; each one begins where the one before ended
   * @param bytes data bytes in it
   * @returns to be called when it is done
   */
  begin(end: number, bytes: number): () => void {
    const piece: Piece = { end, bytes, isDone: false };
    this.#pieces.push(piece);
    return () => {
      piece.isDone = true;
      let done = 0;
      for (const first of this.#pieces) {
        if (!first.isDone) break;
        this.#mark = first.end;
        this.#bytes += first.bytes;
        done++;
      }
      this.#pieces.splice(0, done);
    };
  }
}
