import { type Deferred, deferred } from "../../base/deferred.ts";
import { HypervisorError } from "./errors.ts";
import { JsonLines } from "./json-lines.ts";

/** Something that QEMU tells unasked, e.g. `BLOCK_IO_ERROR`, `STOP`, `SHUTDOWN`. */
export interface QmpEvent {
  readonly event: string;
  readonly data: Record<string, unknown>;
  /** When it happened, by QEMU's clock: milliseconds since the epoch, with a fraction. */
  readonly at: number;
}

/** A client of the QEMU Machine Protocol (QEMU's docs/interop/qmp-spec). Commands may overlap; replies are matched by id. */
export class QmpClient {
  readonly #waiting = new Map<number, Deferred<unknown>>();
  readonly #listeners: Set<(event: QmpEvent) => void>;
  readonly #greeted = deferred();
  readonly #closed = deferred();
  #lines: JsonLines | undefined;
  #nextId = 1;

  private constructor(onEvent: (event: QmpEvent) => void) {
    this.#listeners = new Set([onEvent]);
    this.#greeted.promise.catch(() => undefined);
  }

  /** Connects and negotiates; QEMU must be listening on `path`. */
  static async connect(path: string, onEvent: (event: QmpEvent) => void): Promise<QmpClient> {
    const client = new QmpClient(onEvent);
    client.#lines = await JsonLines.open(path, {
      onMessage: (message) => client.#receive(message),
      onClose: () => client.#end(),
    });
    await client.#greeted.promise;
    await client.execute("qmp_capabilities");
    return client;
  }

  /** Resolves when the connection has ended, for whatever reason. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** What QEMU returns for a command; its refusal is a `QMP_COMMAND_FAILED` error. */
  execute(command: string, argumentsOf?: object): Promise<unknown> {
    if (this.#lines === undefined) return Promise.reject(ended());
    const id = this.#nextId;
    this.#nextId += 1;
    const reply = deferred<unknown>();
    this.#waiting.set(id, reply);
    this.#lines.send({ execute: command, id, ...(argumentsOf === undefined ? {} : { arguments: argumentsOf }) });
    return reply.promise;
  }

  /** Tells every event to `listener`, until the function that it gives back is called. */
  subscribe(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#lines?.close();
  }

  #receive(message: Record<string, unknown>): void {
    if ("QMP" in message) this.#greeted.resolve();
    else if (typeof message.event === "string") {
      const { seconds = 0, microseconds = 0 } = (message.timestamp ?? {}) as {
        seconds?: number;
        microseconds?: number;
      };
      const at = seconds * 1000 + microseconds / 1000;
      const data = (message.data ?? {}) as Record<string, unknown>;
      for (const listener of this.#listeners) listener({ event: message.event, data, at });
    } else this.#settle(message);
  }

  #settle(message: Record<string, unknown>): void {
    const waiting = typeof message.id === "number" ? this.#waiting.get(message.id) : undefined;
    if (waiting === undefined) return;
    this.#waiting.delete(message.id as number);
    if ("error" in message) {
      const { desc } = message.error as { desc?: string };
      waiting.reject(new HypervisorError("QMP_COMMAND_FAILED", `QEMU refused a command: ${desc ?? "no reason given"}`));
    } else waiting.resolve(message.return);
  }

  #end(): void {
    this.#lines = undefined;
    this.#greeted.reject(ended());
    for (const waiting of this.#waiting.values()) waiting.reject(ended());
    this.#waiting.clear();
    this.#closed.resolve();
  }
}

function ended(): HypervisorError {
  return new HypervisorError("QEMU_UNREACHABLE", "QEMU's control connection has ended");
}
