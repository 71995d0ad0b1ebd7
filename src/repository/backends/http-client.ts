import {
  type Agent,
  type AgentOptions,
  request as ask,
  Agent as HttpAgent,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from "node:http";
import { request as askTls, Agent as TlsAgent } from "node:https";
import type { LookupFunction } from "node:net";
import { errorCode, VmRestoreError } from "../../base/errors.ts";

const ERROR_PAGE_LIMIT = 16 * 1024;
/** Whoever is slower than that, after the time that a request may take beside, is given up. */
const SLOWEST_BYTES_PER_MS = 64;

/** Why an attempt gave no answer. Whether the next may fare better is said by `mayPass`. */
export class HttpError extends VmRestoreError {
  declare readonly code: "HTTP_FAILED" | "HTTP_STALLED" | "HTTP_UNTRUSTED" | "HTTP_ANSWER_TOO_LONG";

  constructor(code: HttpError["code"], message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, message, options);
  }

  get mayPass(): boolean {
    return this.code === "HTTP_FAILED" || this.code === "HTTP_STALLED";
  }
}

/** One request; everything is in it, credentials included. */
export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly content?: Buffer | undefined;
  /** Bytes that a successful answer may hold. */
  readonly limit: number;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Of an error's page, the first 16 KiB. */
  readonly body: Buffer;
}

/** Milliseconds. */
export interface HttpLimits {
  /** Until a connection is made. */
  readonly connect: number;
  /** In which nothing at all arrives. */
  readonly stall: number;
  /** For the whole answer, beside what the bytes that came so far may take at 64 kB/s. */
  readonly total: number;
}

const LIMITS: HttpLimits = { connect: 10_000, stall: 20_000, total: 60_000 };

export interface HttpClientOptions {
  /**
   * PEM: what a server's certificate must be signed by, instead of the well-known authorities. Where it may change meanwhile, who is asked
   * for it with each request; `renew` where a certificate was refused by the last one.
   */
  readonly ca?: string | undefined | ((renew: boolean) => Promise<string | undefined>);
  /** Connections to one host at once; further requests wait for one. */
  readonly connections?: number;
  readonly limits?: HttpLimits;
  /** How names are resolved; by default as the system does. */
  readonly lookup?: LookupFunction;
}

/**
 * Requests over kept-alive connections, with everything bounded: connections per host, an answer's length, and the time for
 * connecting, for silence and for the whole. Never follows a redirect: the credentials are for this host only.
 */
export class HttpClient {
  readonly #plain: Agent;
  readonly #tls: TrustingAgents;
  readonly #limits: HttpLimits;

  constructor({ ca, connections = 32, limits = LIMITS, lookup }: HttpClientOptions = {}) {
    const options = {
      keepAlive: true,
      maxSockets: connections,
      scheduling: "lifo",
      ...(lookup === undefined ? {} : { lookup }),
    } as const;
    this.#plain = new HttpAgent(options);
    this.#tls = new TrustingAgents(options, typeof ca === "function" ? ca : async () => ca);
    this.#limits = limits;
  }

  /** One attempt; any status is an answer. @throws HttpError */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    if (request.url.protocol !== "https:") return this.#fresh(request, this.#plain);
    const agent = await this.#tls.current(false);
    try {
      return await this.#fresh(request, agent);
    } catch (error) {
      if (!(error instanceof HttpError) || error.code !== "HTTP_UNTRUSTED") throw error;
      // The server may bear a certificate of an authority that we have been given a moment ago.
      const renewed = await this.#tls.current(true);
      if (renewed === agent) throw error;
      return this.#fresh(request, renewed);
    }
  }

  close(): void {
    this.#plain.destroy();
    this.#tls.destroy();
  }

  async #fresh(request: HttpRequest, agent: Agent | TlsAgent): Promise<HttpAnswer> {
    try {
      return await this.#once(request, agent);
    } catch (error) {
      // The server closed an idle connection just when it was taken again: that says nothing about the request.
      if (!(error instanceof StaleConnection)) throw error;
      return this.#once(request, agent);
    }
  }

  #once(request: HttpRequest, agent: Agent | TlsAgent): Promise<HttpAnswer> {
    const { method, url, headers, content, limit } = request;
    const isTls = url.protocol === "https:";
    const { connect, stall, total } = this.#limits;
    return new Promise((resolve, reject) => {
      let answered = false;
      let reason: HttpError | undefined;
      const timers: NodeJS.Timeout[] = [];
      /** Bytes of the body. */
      let received = 0;
      const sent = (isTls ? askTls : ask)(url, { method, headers, agent });
      const give = (code: HttpError["code"], message: string): void => {
        reason ??= new HttpError(code, message);
        sent.destroy(reason);
      };
      const fail = (cause: unknown): void => {
        for (const timer of timers) clearTimeout(timer);
        const isStale = sent.reusedSocket && !answered && errorCode(cause) === "ECONNRESET";
        reject(reason ?? (isStale ? new StaleConnection(cause) : failure(url, cause)));
      };
      sent.once("socket", (socket) => {
        // Time begins when there is a connection to use, not while others hold them all.
        const since = performance.now();
        const look = (): void => {
          const allowed = total + ((content?.length ?? 0) + received) / SLOWEST_BYTES_PER_MS;
          const left = allowed - (performance.now() - since);
          if (left <= 0) give("HTTP_STALLED", `no complete answer from ${url.host} in time`);
          else timers[0] = setTimeout(look, Math.ceil(left));
        };
        look();
        if (socket.connecting) {
          const connecting = setTimeout(() => give("HTTP_STALLED", `${url.host} does not accept connections`), connect);
          timers.push(connecting);
          socket.once(isTls ? "secureConnect" : "connect", () => clearTimeout(connecting));
        }
      });
      sent.setTimeout(stall, () => give("HTTP_STALLED", `${url.host} sent nothing for ${stall} ms`));
      sent.on("error", fail);
      // Where a server begins to speak something else, Node closes the connection and tells nobody.
      sent.once("close", () => {
        if (!answered) fail(undefined);
      });
      sent.once("response", (response) => {
        answered = true;
        const count = (bytes: number): void => {
          received += bytes;
        };
        collect(response, method === "HEAD" ? 0 : limit, count).then((body) => {
          for (const timer of timers) clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
        }, fail);
      });
      sent.end(content);
    });
  }
}

/** Connections over TLS, all of them made with the authority that is known now. */
class TrustingAgents {
  readonly #options: AgentOptions;
  readonly #authority: (renew: boolean) => Promise<string | undefined>;
  #current: { readonly agent: TlsAgent; readonly ca: string | undefined } | undefined;
  /** Those of earlier authorities that are in use still. */
  #earlier: TlsAgent[] = [];

  constructor(options: AgentOptions, authority: (renew: boolean) => Promise<string | undefined>) {
    this.#options = options;
    this.#authority = authority;
  }

  async current(renew: boolean): Promise<TlsAgent> {
    const ca = await this.#authority(renew);
    if (this.#current !== undefined && this.#current.ca === ca) return this.#current.agent;
    this.#retire();
    const agent = new TlsAgent({ ...this.#options, ...(ca === undefined ? {} : { ca }) });
    this.#current = { agent, ca };
    return agent;
  }

  destroy(): void {
    for (const agent of this.#earlier) agent.destroy();
    this.#current?.agent.destroy();
  }

  /** What is under way comes to its end; nothing is kept for later. */
  #retire(): void {
    if (this.#current === undefined) return;
    const { agent } = this.#current;
    agent.maxFreeSockets = 0;
    for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
    this.#earlier = [...this.#earlier.filter(({ sockets }) => Object.keys(sockets).length > 0), agent];
  }
}

class StaleConnection extends Error {
  constructor(cause: unknown) {
    super("the connection was closed", { cause });
  }
}

/** What Node and OpenSSL say of a certificate that cannot be trusted. */
const UNTRUSTED =
  /^(ERR_TLS_CERT_|CERT_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_(GET|VERIFY)_|HOSTNAME_MISMATCH|INVALID_CA)/;

function failure(url: URL, cause: unknown): HttpError {
  if (cause instanceof HttpError) return cause;
  const code = errorCode(cause);
  if (code !== undefined && UNTRUSTED.test(code)) {
    return new HttpError("HTTP_UNTRUSTED", `${url.host} showed a certificate that is not trusted: ${code}`, { cause });
  }
  return new HttpError("HTTP_FAILED", `${url.host}: ${code ?? "the connection failed"}`, { cause });
}

/** The whole body. Of an error's page only its beginning: it is nobody's concern, and may be longer than what was asked for. */
async function collect(response: IncomingMessage, limit: number, onBytes: (bytes: number) => void): Promise<Buffer> {
  const isError = (response.statusCode ?? 0) >= 300;
  const most = isError ? ERROR_PAGE_LIMIT : limit;
  const announced = Number(response.headers["content-length"] ?? Number.NaN);
  if (!isError && announced > most && limit > 0) throw tooLong(response, limit);
  const known = announced <= most;
  const whole = known ? Buffer.allocUnsafeSlow(announced) : undefined;
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    if (length + piece.length > most) {
      // Leaving the loop destroys the connection: the rest is not waited for.
      if (!isError) throw tooLong(response, limit);
      break;
    }
    if (whole === undefined) pieces.push(piece);
    else piece.copy(whole, length);
    length += piece.length;
    onBytes(piece.length);
  }
  return whole === undefined ? Buffer.concat(pieces, length) : whole.subarray(0, length);
}

function tooLong(response: IncomingMessage, limit: number): HttpError {
  response.destroy();
  return new HttpError("HTTP_ANSWER_TOO_LONG", `an answer of over ${limit} bytes`);
}
