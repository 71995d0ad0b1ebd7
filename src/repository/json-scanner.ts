const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const DEPTH_LIMIT = 64;
const INTEGER_DIGITS = 15;

/** Value of a lower-case hexadecimal digit by its byte; 255 for any other byte. */
const HEX = new Uint8Array(256).fill(255);
for (const [value, digit] of [..."0123456789abcdef"].entries()) HEX[digit.charCodeAt(0)] = value;

/**
 * Reads JSON (RFC 8259) in place, without making objects of it: index files list tens of thousands of blobs, and the tree of
 * a large disk is a list of millions of ids. Every method throws a `SyntaxError` where the text is something else.
 */
export class JsonScanner {
  #bytes: Uint8Array;
  #at = 0;
  /** Where the bytes begin in the text. */
  #base = 0;
  /** Whether the text goes on behind the bytes: then nothing that ends with them counts as ended. */
  isPartial: boolean;

  constructor(bytes: Uint8Array, isPartial = false) {
    this.#bytes = bytes;
    this.isPartial = isPartial;
  }

  /** How many of the bytes were read. */
  get position(): number {
    return this.#at;
  }

  set position(at: number) {
    this.#at = at;
  }

  /** Goes on in other bytes, which begin `skipped` bytes behind where these do. */
  moveTo(bytes: Uint8Array, skipped: number): void {
    this.#bytes = bytes;
    this.#base += skipped;
    this.#at -= skipped;
  }

  /**
   * Calls `member` for each member of the object that begins here, which must read its value.
   *
   * @param keys the keys that are told apart; `member` gets a key's position in it, or -1 for any other.
   */
  object(keys: readonly Uint8Array[], member: (key: number) => void): void {
    if (!this.enter()) return;
    do member(this.key(keys, 0));
    while (this.next());
  }

  /**
   * Goes into the object that begins here: the same as {@link object} without a function, for objects that there are millions
   * of. Where it gives back true, a {@link key} and its value come next, and then {@link next} says whether another pair does.
   */
  enter(): boolean {
    this.#expect(OPEN_OBJECT);
    return !this.#takeOrMore(CLOSE_OBJECT);
  }

  /**
   * A member's key: its position in `keys`, or -1 where it is none of them.
   *
   * @param guess the position of the one that is likely
   */
  key(keys: readonly Uint8Array[], guess: number): number {
    const position = this.#matches(keys[guess]) ? guess : this.#position(keys);
    this.#expect(COLON);
    return position;
  }

  /** Whether the object has another member; else it is left. */
  next(): boolean {
    if (this.#take(COMMA)) return true;
    this.#expect(CLOSE_OBJECT);
    return false;
  }

  /** Calls `element` for each element of the array that begins here, which must read it; `null` counts as an empty array. */
  array(element: () => void): void {
    if (!this.enterArray()) return;
    do element();
    while (this.nextElement());
  }

  /** Goes into the array that begins here: the same as {@link array} without a function. Gives back whether it has an element. */
  enterArray(): boolean {
    if (this.#peek() !== OPEN_ARRAY) {
      this.#literal("null");
      return false;
    }
    this.#expect(OPEN_ARRAY);
    return !this.#takeOrMore(CLOSE_ARRAY);
  }

  /** Whether the array has another element; else it is left. */
  nextElement(): boolean {
    if (this.#take(COMMA)) return true;
    this.#expect(CLOSE_ARRAY);
    return false;
  }

  /** A string; `limit` bytes at most. */
  string(limit: number): string {
    const [start, end] = this.#stringBounds();
    if (end - start > limit) throw this.#wrong(`a string of at most ${limit} bytes`);
    const raw = this.#bytes.subarray(start - 1, end + 1);
    return JSON.parse(Buffer.from(raw.buffer, raw.byteOffset, raw.length).toString("utf8")) as string;
  }

  /** A string: its position in `texts`, or -1 where it is none of them. */
  choice(texts: readonly Uint8Array[]): number {
    return this.#matches(texts[0]) ? 0 : this.#position(texts);
  }

  /** A string of `2 · length` lower-case hexadecimal digits, written to `into` as bytes. */
  hex(into: Uint8Array, at: number, length: number): void {
    this.#expect(QUOTE);
    const bytes = this.#bytes;
    let from = this.#at;
    for (let index = 0; index < length; index++) {
      const high = HEX[bytes[from++] ?? 0] ?? 255;
      const low = HEX[bytes[from++] ?? 0] ?? 255;
      if ((high | low) > 15) throw this.#wrong(`${2 * length} hexadecimal digits`);
      into[at + index] = (high << 4) | low;
    }
    if (bytes[from] !== QUOTE) throw this.#wrong(`${2 * length} hexadecimal digits`);
    this.#at = from + 1;
  }

  /** An integer from 0 to 10^15 - 1. */
  integer(): number {
    this.#peek();
    const start = this.#at;
    let value = 0;
    for (let byte = this.#bytes[this.#at] ?? 0; byte >= 0x30 && byte <= 0x39; byte = this.#bytes[++this.#at] ?? 0) {
      value = value * 10 + byte - 0x30;
    }
    const digits = this.#at - start;
    const next = this.#bytes[this.#at];
    const goesOn = next === 0x2e || next === 0x65 || next === 0x45 || this.#isCutOff(next); // . e E
    if (digits === 0 || digits > INTEGER_DIGITS || goesOn) throw this.#wrong("an integer that is not negative");
    return value;
  }

  /** Whether `null` is here; then it is read. */
  null(): boolean {
    if (this.#peek() !== 0x6e) return false;
    this.#literal("null");
    return true;
  }

  /** Reads any value and forgets it. */
  skip(depth = 0): void {
    if (depth > DEPTH_LIMIT) throw this.#wrong("less nesting");
    switch (this.#peek()) {
      case QUOTE:
        this.#stringBounds();
        return;
      case OPEN_OBJECT:
        this.object([], () => this.skip(depth + 1));
        return;
      case OPEN_ARRAY:
        this.array(() => this.skip(depth + 1));
        return;
      case 0x74:
        this.#literal("true");
        return;
      case 0x66:
        this.#literal("false");
        return;
      case 0x6e:
        this.#literal("null");
        return;
      default:
        this.#number();
    }
  }

  /** Nothing but white space may follow. */
  end(): void {
    if (this.#peek() !== undefined || this.isPartial) throw this.#wrong("the end");
  }

  #number(): void {
    const start = this.#at;
    for (let byte = this.#bytes[this.#at]; byte !== undefined && isNumberByte(byte); byte = this.#bytes[++this.#at]);
    const text = Buffer.from(this.#bytes.subarray(start, this.#at)).toString("latin1");
    if (this.#isCutOff(this.#bytes[this.#at]) || !/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text))
      throw this.#wrong("a value");
  }

  #literal(text: string): void {
    this.#peek();
    for (let index = 0; index < text.length; index++) {
      if (this.#bytes[this.#at + index] !== text.charCodeAt(index)) throw this.#wrong(text);
    }
    this.#at += text.length;
  }

  /** Where the string that begins here has its first byte and its closing quote; goes behind it. */
  #stringBounds(): [number, number] {
    this.#expect(QUOTE);
    const start = this.#at;
    for (let at = start; ; at++) {
      const byte = this.#bytes[at];
      if (byte === QUOTE) {
        this.#at = at + 1;
        return [start, at];
      }
      if (byte === BACKSLASH) at++;
      else if (byte === undefined || byte < 0x20) throw this.#wrong("the end of a string");
    }
  }

  /** Whether the string that begins here is this one; then it is read. */
  #matches(text: Uint8Array | undefined): boolean {
    if (text === undefined || this.#peek() !== QUOTE) return false;
    const bytes = this.#bytes;
    const start = this.#at + 1;
    const { length } = text;
    for (let index = 0; index < length; index++) if (bytes[start + index] !== text[index]) return false;
    if (bytes[start + length] !== QUOTE) return false;
    this.#at = start + length + 1;
    return true;
  }

  #position(texts: readonly Uint8Array[]): number {
    const [start, end] = this.#stringBounds();
    for (let index = 0; index < texts.length; index++) {
      const text = texts[index];
      if (text === undefined || text.length !== end - start) continue;
      let at = 0;
      while (at < text.length && text[at] === this.#bytes[start + at]) at++;
      if (at === text.length) return index;
    }
    return -1;
  }

  /** The next byte that is no white space, not read yet; undefined at the end. */
  #peek(): number | undefined {
    let byte = this.#bytes[this.#at];
    while (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) byte = this.#bytes[++this.#at];
    return byte;
  }

  #take(byte: number): boolean {
    if (this.#peek() !== byte) return false;
    this.#at++;
    return true;
  }

  /** As {@link #take}, where something must come. */
  #takeOrMore(byte: number): boolean {
    if (this.#peek() === undefined) throw this.#wrong("more");
    return this.#take(byte);
  }

  /** Whether a number that this byte comes after may go on. */
  #isCutOff(next: number | undefined): boolean {
    return next === undefined && this.isPartial;
  }

  #expect(byte: number): void {
    if (!this.#take(byte)) throw this.#wrong(`'${String.fromCharCode(byte)}'`);
  }

  #wrong(expected: string): SyntaxError {
    return new SyntaxError(`expected ${expected} at byte ${this.#base + this.#at}`);
  }
}

function isNumberByte(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) || byte === 0x2b || byte === 0x2d || byte === 0x2e || byte === 0x65 || byte === 0x45
  );
}

/** Keys or values in the form that {@link JsonScanner} compares. */
export function keys(...names: string[]): Uint8Array[] {
  return names.map((name) => Buffer.from(name));
}
