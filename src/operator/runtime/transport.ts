import http, { type IncomingMessage } from "node:http";
import https, { type RequestOptions } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";
import { type Clock, systemClock } from "../../base/clock.ts";
import { withEither } from "../../base/either-signal.ts";
import { errorMessage } from "../../base/errors.ts";
import { ApiError } from "./errors.ts";

/** The largest answer that is read into memory: a list of some thousand objects. */
const ANSWER_LIMIT = 64 * 1024 * 1024;
/** A dead peer shows by its keep-alives; a watch that is silent for other reasons is noticed by who reads it. */
const KEEP_ALIVE_MS = 15_000;
const REQUEST_TIMEOUT_MS = 30_000;
const BUSY_ATTEMPTS = 4;
const MOST_WAIT_MS = 5_000;

export interface ApiRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With its query. */
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
}

/** A request in the words of RBAC. */
export interface AskedRequest {
  readonly verb: "get" | "list" | "watch" | "create" | "update" | "patch" | "delete";
  /** Plural, with its subresource: `vmrestores/status`. */
  readonly resource: string;
}

const VERBS = { POST: "create", PUT: "update", PATCH: "patch", DELETE: "delete" } as const;

function askedOf({ method, path }: ApiRequest): AskedRequest {
  const [bare = "", query] = path.split("?");
  const parts = bare
    .replace(/^\/api(s\/[^/]+)?\/[^/]+/, "")
    .split("/")
    .filter(Boolean);
  const [plural = "", name, subresource] = parts[0] === "namespaces" && parts.length > 2 ? parts.slice(2) : parts;
  const resource = subresource === undefined ? plural : `${plural}/${subresource}`;
  if (method !== "GET") return { verb: VERBS[method], resource };
  if (new URLSearchParams(query).get("watch") === "true") return { verb: "watch", resource };
  return { verb: name === undefined ? "list" : "get", resource };
}

/**
 * JSON requests and watches to one API server, with the addresses and credentials of a kubeconfig. The client library's own
 * watch stops for good after a lost connection and never asks for bookmarks, so only its credentials are used.
 */
export class Transport {
  readonly #config: KubeConfig;
  readonly #secure = new https.Agent({ keepAlive: true });
  readonly #plain = new http.Agent({ keepAlive: true });

  readonly #clock: Pick<Clock, "sleep">;
  readonly #onAnswer: (request: AskedRequest, status: number, date?: string) => void;

  /**
   * @param options.onAnswer called with each answer's HTTP status and the server's time, as its `Date` tells it, and with 0 for a request
   *   that got none
   */
  constructor(
    config: KubeConfig,
    options: {
      readonly clock?: Pick<Clock, "sleep">;
      readonly onAnswer?: (request: AskedRequest, status: number, date?: string) => void;
    } = {},
  ) {
    this.#config = config;
    this.#clock = options.clock ?? systemClock;
    this.#onAnswer = options.onAnswer ?? (() => undefined);
  }

  /**
   * The parsed answer; an {@link ApiError} for a refusal or a connection that failed. A server that is too busy and says when to come
   * again is asked again then, a few times, where that is soon. Had it done something all the same, a write meets a conflict.
   */
  async request(request: ApiRequest): Promise<unknown> {
    const limit = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const signals = request.signal === undefined ? [limit] : [request.signal, limit];
    try {
      return await withEither(signals, (signal) => this.#ask({ ...request, signal }, signal));
    } catch (error) {
      throw asApiError(request, error);
    }
  }

  async #ask(request: ApiRequest, signal: AbortSignal): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await this.#send(request, true);
        return JSON.parse(await readAll(answer));
      } catch (error) {
        const wait = error instanceof ApiError ? error.retryAfterMs : undefined;
        if (wait === undefined || wait > MOST_WAIT_MS || attempt === BUSY_ATTEMPTS) throw error;
        await this.#clock.sleep(wait, signal);
      }
    }
  }

  /** The lines of a watch, until the server ends it, the connection is lost (an {@link ApiError}), or the signal. */
  async *watch(path: string, signal: AbortSignal): AsyncGenerator<unknown> {
    const request: ApiRequest = { method: "GET", path, signal };
    try {
      const answer = await this.#send(request, false);
      answer.setEncoding("utf8");
      answer.socket.setKeepAlive(true, KEEP_ALIVE_MS);
      let rest = "";
      for await (const piece of answer as AsyncIterable<string>) {
        const lines = (rest + piece).split("\n");
        rest = lines.pop() ?? "";
        if (rest.length > ANSWER_LIMIT) throw new ApiError(`${path}: an event of over ${ANSWER_LIMIT} bytes`);
        for (const line of lines) if (line.trim() !== "") yield JSON.parse(line);
      }
    } catch (error) {
      throw asApiError(request, error);
    }
  }

  close(): void {
    this.#secure.destroy();
    this.#plain.destroy();
  }

  async #send(request: ApiRequest, keepAlive: boolean): Promise<IncomingMessage> {
    const cluster = this.#config.getCurrentCluster();
    if (cluster === null) throw new ApiError("the kubeconfig names no current cluster");
    const base = new URL(cluster.server);
    const url = new URL(`${base.pathname.replace(/\/$/, "")}${request.path}`, base);
    const options: RequestOptions = { headers: { accept: "application/json" } };
    await this.#config.applyToHTTPSOptions(options);
    if (cluster.proxyUrl === undefined || cluster.proxyUrl === "") {
      if (!keepAlive) options.agent = false;
      else options.agent = url.protocol === "http:" ? (this.#plain as https.Agent) : this.#secure;
    }
    const payload = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const headers = {
      ...options.headers,
      ...(payload === undefined
        ? {}
        : { "content-type": request.contentType ?? "application/json", "content-length": payload.length }),
    };
    const { method, signal } = request;
    const library = url.protocol === "http:" ? http : https;
    const asked = askedOf(request);
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = library.request(
        url,
        { ...options, method, headers, ...(signal === undefined ? {} : { signal }) },
        resolve,
      );
      outgoing.on("error", reject);
      // Where the server begins to speak something else, Node closes the connection and tells nobody, nor that time is up.
      outgoing.once("close", () => reject(new Error("the connection was closed without an answer")));
      outgoing.end(payload);
    }).catch((error: unknown) => {
      this.#onAnswer(asked, 0);
      throw error;
    });
    const status = answer.statusCode ?? 0;
    this.#onAnswer(asked, status, answer.headers.date);
    if (status >= 200 && status < 300) return answer;
    throw refusal(request, status, answer.headers["retry-after"], await readAll(answer));
  }
}

async function readAll(answer: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of answer as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > ANSWER_LIMIT) {
      answer.destroy();
      throw new ApiError(`an answer of over ${ANSWER_LIMIT} bytes`);
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

function refusal({ method, path }: ApiRequest, status: number, retryAfter: string | undefined, body: string): ApiError {
  let said: { message?: unknown; reason?: unknown } = {};
  try {
    said = JSON.parse(body) as typeof said;
  } catch {
    // A proxy in between answers in its own words.
  }
  const message = typeof said.message === "string" ? said.message : `status ${status}`;
  const reason = typeof said.reason === "string" ? said.reason : undefined;
  const isBusy = (status === 429 || status >= 500) && /^\d{1,4}$/.test(retryAfter ?? "");
  const retryAfterMs = isBusy ? 1000 * Number(retryAfter) : undefined;
  return new ApiError(`${method} ${path.replace(/\?.*/, "")}: ${message}`, { status, reason, retryAfterMs });
}

function asApiError({ method, path }: ApiRequest, cause: unknown): ApiError {
  if (cause instanceof ApiError) return cause;
  return new ApiError(`${method} ${path.replace(/\?.*/, "")}: ${errorMessage(cause)}`, { cause });
}
