import { describeFile, type FileName, type FileType } from "./backend.ts";
import { ForwardingBackend } from "./forwarding.ts";

/**
 * A backend of which some reads are begun before anybody asks for them, so that they run while something else is waited for. What
 * was begun is given once; whoever reads again reads anew.
 */
export class EarlyReads extends ForwardingBackend {
  readonly #files = new Map<string, Promise<Buffer>>();
  readonly #lists = new Map<FileType, Promise<string[]>>();

  /** Begins to read a whole file. What the promise rejects with is told to whoever asks for the file, too. */
  begin(file: FileName, limit: number): Promise<Buffer> {
    return keep(this.#files, describeFile(file), this.backend.readAll(file, limit));
  }

  /** As {@link begin}, for a listing. */
  beginList(type: FileType): Promise<string[]> {
    return keep(this.#lists, type, this.backend.list(type));
  }

  override list(type: FileType): Promise<string[]> {
    return take(this.#lists, type) ?? super.list(type);
  }

  override readAll(file: FileName, limit: number): Promise<Buffer> {
    return take(this.#files, describeFile(file)) ?? super.readAll(file, limit);
  }

  override close(): Promise<void> {
    this.#files.clear();
    this.#lists.clear();
    return super.close();
  }
}

function keep<K, T>(begun: Map<K, Promise<T>>, key: K, read: Promise<T>): Promise<T> {
  // Nobody may ever ask for it.
  read.catch(() => undefined);
  begun.set(key, read);
  return read;
}

function take<K, T>(begun: Map<K, Promise<T>>, key: K): Promise<T> | undefined {
  const read = begun.get(key);
  begun.delete(key);
  return read;
}
