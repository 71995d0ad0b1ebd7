import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What is done to one answer. */
export type Fault =
  /** Answered here, without asking the server. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly body?: string;
      readonly headers?: Record<string, string>;
    }
  /** The connection is cut after so many bytes of the body. */
  | { readonly kind: "cut"; readonly after: number }
  /** Nothing more comes after so many bytes of the body. */
  | { readonly kind: "stall"; readonly after: number }
  /** The body comes a byte at a time, with so many milliseconds between. */
  | { readonly kind: "drip"; readonly every: number }
  /** The body is so many bytes shorter, and the headers say so. */
  | { readonly kind: "truncate"; readonly by: number }
  /** One byte of the body is another. */
  | { readonly kind: "alter" }
  /** The request reaches the server, its answer never arrives. */
  | { readonly kind: "lose" }
  /** Its answer is held back until then. */
  | { readonly kind: "wait"; readonly until: Promise<void> }
  /** More than the range that was asked for, with status 200. */
  | { readonly kind: "whole" };

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** Stands between a client and a server, and does to the answers what a bad network and a busy server do. */
export class FaultProxy {
  /** What to do to the answer of the n-th request since the start, from 0. */
  fault: (request: Seen, number: number) => Fault | undefined = () => undefined;
  readonly seen: Seen[] = [];
  /** Requests that were under way at once, at most. */
  mostAtOnce = 0;
  readonly #server: Server;
  readonly #port: number;
  #atOnce = 0;

  private constructor(port: number) {
    this.#port = port;
    this.#server = createServer((incoming, response) => void this.#pass(incoming, response));
  }

  /** @param port of the server, on 127.0.0.1 */
  static async start(port: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(port);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #pass(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    this.mostAtOnce = Math.max(this.mostAtOnce, ++this.#atOnce);
    response.once("close", () => this.#atOnce--);
    const { method = "", url = "", headers } = incoming;
    const seen = { method, url, range: headers.range, authorization: headers.authorization };
    const fault = this.fault(seen, this.seen.length);
    this.seen.push(seen);
    if (fault?.kind === "status") {
      incoming.resume();
      response.writeHead(fault.status, fault.headers).end(method === "HEAD" ? undefined : fault.body);
      return;
    }
    const outgoing = request({ host: "127.0.0.1", port: this.#port, method, path: url, headers }, (answer) => {
      const pieces: Buffer[] = [];
      answer.on("data", (piece: Buffer) => pieces.push(piece));
      answer.once("end", () => void give(answer, Buffer.concat(pieces), response, fault));
    });
    outgoing.once("error", () => response.destroy());
    incoming.pipe(outgoing);
  }
}

async function give(
  answer: IncomingMessage,
  body: Buffer,
  response: ServerResponse,
  fault: Fault | undefined,
): Promise<void> {
  const { statusCode = 0, headers } = answer;
  switch (fault?.kind) {
    case "lose":
      response.destroy();
      return;
    case "cut":
      response.writeHead(statusCode, headers).write(body.subarray(0, fault.after), () => response.destroy());
      return;
    case "stall":
      response.writeHead(statusCode, headers).write(body.subarray(0, fault.after));
      return;
    case "drip": {
      response.writeHead(statusCode, headers);
      let at = 0;
      const timer = setInterval(() => response.write(body.subarray(at, ++at)), fault.every);
      response.once("close", () => clearInterval(timer));
      return;
    }
    case "truncate": {
      const rest = body.subarray(0, Math.max(0, body.length - fault.by));
      response.writeHead(statusCode, { ...headers, "content-length": rest.length }).end(rest);
      return;
    }
    case "alter":
      if (body.length > 0) body[body.length >> 1] = (body[body.length >> 1] ?? 0) ^ 1;
      response.writeHead(statusCode, headers).end(body);
      return;
    case "whole": {
      const more = Buffer.concat([body, Buffer.alloc(10)]);
      response.writeHead(200, { "content-length": more.length }).end(more);
      return;
    }
    case "wait":
      await fault.until;
      response.writeHead(statusCode, headers).end(body);
      return;
    default:
      response.writeHead(statusCode, headers).end(body);
  }
}
