import type { Backend, FileName, FileType } from "./backend.ts";

/** A backend that hands everything on to another: what a kind of its own does differently, it overrides. */
export abstract class ForwardingBackend implements Backend {
  readonly location: string;
  readonly requestCost: number;
  protected readonly backend: Backend;

  constructor(backend: Backend) {
    this.location = backend.location;
    this.requestCost = backend.requestCost;
    this.backend = backend;
  }

  list(type: FileType): Promise<string[]> {
    return this.backend.list(type);
  }

  readAll(file: FileName, limit: number): Promise<Buffer> {
    return this.backend.readAll(file, limit);
  }

  readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
    return this.backend.readRange(file, offset, length);
  }

  exists(file: FileName): Promise<boolean> {
    return this.backend.exists(file);
  }

  save(file: FileName, content: Buffer): Promise<void> {
    return this.backend.save(file, content);
  }

  remove(file: FileName): Promise<void> {
    return this.backend.remove(file);
  }

  close(): Promise<void> {
    return this.backend.close();
  }
}
