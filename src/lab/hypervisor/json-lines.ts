import { connect, type Socket } from "node:net";
import { HypervisorError } from "./errors.ts";

/** No answer of QEMU or of a guest agent that we ask for comes near this; a guest is not trusted to keep lines short. */
const MAX_LINE = 4 << 20;

/** One JSON object a line over a UNIX socket: how QMP and the guest agent talk. */
export class JsonLines {
  readonly #socket: Socket;
  #rest = "";

  private constructor(socket: Socket, onMessage: (message: Record<string, unknown>) => void, onClose: () => void) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      for (const line of this.#lines(text)) {
        const message = parseObject(line);
        if (message !== undefined) onMessage(message);
      }
    });
    socket.on("error", () => socket.destroy());
    socket.once("close", onClose);
  }

  /** Resolves once connected; messages and the end of the connection come by callback. */
  static open(
    path: string,
    handlers: { onMessage: (message: Record<string, unknown>) => void; onClose: () => void },
  ): Promise<JsonLines> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      const refuse = (cause: unknown): void => {
        socket.destroy();
        reject(new HypervisorError("QEMU_UNREACHABLE", "cannot reach QEMU's socket", { cause }));
      };
      socket.once("error", refuse);
      socket.once("connect", () => {
        socket.removeListener("error", refuse);
        resolve(new JsonLines(socket, handlers.onMessage, handlers.onClose));
      });
    });
  }

  send(message: object): void {
    this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  close(): void {
    this.#socket.destroy();
  }

  #lines(text: string): string[] {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MAX_LINE) this.#socket.destroy();
    return lines;
  }
}

/** What is no JSON object (noise of a guest's agent, a byte 0xFF of its resynchronization) is passed over. */
function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line.replace(/^[^{]*/, ""));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
