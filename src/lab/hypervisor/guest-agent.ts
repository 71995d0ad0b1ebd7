import { setTimeout as delay } from "node:timers/promises";
import { type Deferred, deferred } from "../../base/deferred.ts";
import { HypervisorError } from "./errors.ts";
import { JsonLines } from "./json-lines.ts";

/**
 * The host's end of the guest agent's channel (QEMU's docs/interop/qemu-ga-ref). Commands run one after the other, each after a
 * `guest-sync` with a fresh number: the channel keeps what an agent of an earlier boot left in it, and answers bear no id.
 */
export class GuestAgent {
  readonly #path: string;
  #lines: JsonLines | undefined;
  #expected: { token: number | undefined; reply: Deferred<unknown> } | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #token: number;

  /** @param path the UNIX socket of the channel's character device, on which QEMU listens */
  constructor(path: string, firstToken: number = Math.floor(Math.random() * 1e9)) {
    this.#path = path;
    this.#token = firstToken;
  }

  /** The agent's answer within `timeoutMs`, else an error. */
  execute(command: string, timeoutMs: number): Promise<unknown> {
    const result = this.#last.then(() => this.#executeNow(command, timeoutMs));
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Tells the agent to do what has no answer: the machine is going down. */
  async tell(command: string): Promise<void> {
    await this.#last;
    const lines = await this.#open();
    lines.send({ execute: command });
  }

  close(): void {
    this.#lines?.close();
    this.#lines = undefined;
  }

  async #executeNow(command: string, timeoutMs: number): Promise<unknown> {
    const stop = new AbortController();
    const lines = await this.#open();
    const late = delay(timeoutMs, undefined, { signal: stop.signal }).then(() => {
      throw new HypervisorError("GUEST_AGENT_SILENT", `the guest agent gave no answer to ${command} in time`);
    });
    late.catch(() => undefined);
    try {
      this.#token += 1;
      await Promise.race([
        late,
        this.#ask(lines, { execute: "guest-sync", arguments: { id: this.#token } }, this.#token),
      ]);
      return await Promise.race([late, this.#ask(lines, { execute: command })]);
    } finally {
      this.#expected = undefined;
      stop.abort();
    }
  }

  #ask(lines: JsonLines, message: object, token?: number): Promise<unknown> {
    const reply = deferred<unknown>();
    reply.promise.catch(() => undefined);
    this.#expected = { token, reply };
    lines.send(message);
    return reply.promise;
  }

  #receive(message: Record<string, unknown>): void {
    const expected = this.#expected;
    if (expected === undefined) return;
    if (expected.token !== undefined && message.return !== expected.token) return;
    if ("error" in message) {
      const { desc } = message.error as { desc?: string };
      expected.reply.reject(
        new HypervisorError("GUEST_AGENT_REFUSED", `the guest agent refused: ${desc ?? "no reason"}`),
      );
    } else expected.reply.resolve(message.return);
  }

  async #open(): Promise<JsonLines> {
    this.#lines ??= await JsonLines.open(this.#path, {
      onMessage: (message) => this.#receive(message),
      onClose: () => {
        this.#lines = undefined;
        this.#expected?.reply.reject(new HypervisorError("QEMU_UNREACHABLE", "the guest agent's channel has ended"));
      },
    });
    return this.#lines;
  }
}
