import type { Clock } from "../../base/clock.ts";
import { RepositoryError } from "../errors.ts";
import { describeFile, type FileName } from "./backend.ts";
import { type HttpAnswer, type HttpClient, HttpError, type HttpRequest } from "./http-client.ts";
import { checkRange } from "./ranges.ts";

const TRIES = 4;
const FIRST_PAUSE_MS = 200;
const LAST_PAUSE_MS = 5000;

/** What is particular to one kind of server. */
export interface Service {
  /** For people: where it is, without credentials. */
  readonly location: string;

  /** The request with its credentials. @param renew the last ones were refused: they may have been changed meanwhile */
  authorize(request: HttpRequest, renew: boolean): Promise<HttpRequest>;

  /** What an answer means whose status is not 2xx; REPOSITORY_UNREACHABLE is tried again. @param what for people */
  refusal(answer: HttpAnswer, request: HttpRequest, what: string): RepositoryError;
}

export interface RequestsOptions {
  readonly clock: Clock;
  /** 0 ≤ x < 1 */
  readonly random: () => number;
}

/**
 * How long to wait before the next try, in milliseconds: doubled each time, and spread out between the half and the whole, so that
 * many who failed together do not come back together.
 *
 * @param tried how often it was tried, at least 1
 * @param asked what the server asked for in `Retry-After`, in seconds
 */
export function retryPause(tried: number, random: number, asked: string | undefined): number {
  const whole = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (tried - 1));
  const wanted = /^\d{1,6}$/.test(asked ?? "") ? Number(asked) * 1000 : 0;
  return Math.max(whole * (0.5 + random / 2), Math.min(wanted, LAST_PAUSE_MS));
}

/** Requests to one server: with credentials, tried again where a fault may pass, and with errors that name the object. */
export class Requests {
  readonly #client: HttpClient;
  readonly #service: Service;
  readonly #options: RequestsOptions;

  constructor(client: HttpClient, service: Service, options: RequestsOptions) {
    this.#client = client;
    this.#service = service;
    this.#options = options;
  }

  /** @param check throws a `RepositoryError` where a successful answer is not what was asked for @throws RepositoryError */
  async ask(
    request: HttpRequest,
    file: FileName,
    check: (answer: HttpAnswer) => void = () => undefined,
  ): Promise<HttpAnswer> {
    const { clock, random } = this.#options;
    let renewed = false;
    for (let tried = 1; ; tried++) {
      const { answer, error } = await this.#once(request, file, renewed, check);
      if (error === undefined) return answer;
      const isRefused = error.code === "REPOSITORY_FORBIDDEN" || error.code === "REPOSITORY_READ_ONLY";
      if (isRefused && !renewed) {
        renewed = true;
        continue;
      }
      if (error.code !== "REPOSITORY_UNREACHABLE" || tried >= TRIES) throw error;
      await clock.sleep(retryPause(tried, random(), answer?.headers["retry-after"]));
    }
  }

  /** A whole file of at most `limit` bytes. */
  async readAll(url: URL, file: FileName, limit: number): Promise<Buffer> {
    return (await this.ask({ method: "GET", url, headers: {}, limit }, file)).body;
  }

  /** Exactly `length` bytes from `offset`. */
  async readRange(url: URL, file: FileName, offset: number, length: number): Promise<Buffer> {
    if (length === 0) return Buffer.alloc(0);
    const headers = { range: `bytes=${offset}-${offset + length - 1}` };
    const request = { method: "GET", url, headers, limit: length } as const;
    return (await this.ask(request, file, (answer) => checkRange(answer, file, offset, length))).body;
  }

  async exists(url: URL, file: FileName): Promise<boolean> {
    return (await this.#unlessMissing({ method: "HEAD", url, headers: {}, limit: 0 }, file)) !== undefined;
  }

  /** One that is gone already is no error. */
  async remove(url: URL, file: FileName): Promise<void> {
    await this.#unlessMissing({ method: "DELETE", url, headers: {}, limit: 4096 }, file);
  }

  async #unlessMissing(request: HttpRequest, file: FileName): Promise<HttpAnswer | undefined> {
    try {
      return await this.ask(request, file);
    } catch (error) {
      if (error instanceof RepositoryError && error.code === "REPOSITORY_OBJECT_MISSING") return undefined;
      throw error;
    }
  }

  async #once(
    request: HttpRequest,
    file: FileName,
    renew: boolean,
    check: (answer: HttpAnswer) => void,
  ): Promise<{ answer: HttpAnswer; error?: undefined } | { answer?: HttpAnswer; error: RepositoryError }> {
    const what = `${describeFile(file)} at ${this.#service.location}`;
    try {
      const answer = await this.#client.send(await this.#service.authorize(request, renew));
      if (answer.status < 200 || answer.status >= 300)
        return { answer, error: this.#service.refusal(answer, request, what) };
      check(answer);
      return { answer };
    } catch (cause) {
      return { error: meaningOf(cause, what, request.headers.range !== undefined) };
    }
  }
}

/** What a server means that names another address: it is never gone to, for the credentials are for this one only. */
export function redirected({ status, headers }: HttpAnswer, what: string): RepositoryError {
  return new RepositoryError("REPOSITORY_REDIRECTED", `${what}: the server names another address (${status})`, {
    hint: `Nothing is sent there. Where that is right, give it as the repository's own: ${originOf(headers.location)}.`,
  });
}

function meaningOf(cause: unknown, what: string, isRange: boolean): RepositoryError {
  if (cause instanceof RepositoryError) return cause;
  if (!(cause instanceof HttpError)) {
    return new RepositoryError("REPOSITORY_UNREACHABLE", `${what} cannot be reached`, { cause });
  }
  const message = `${what}: ${cause.message}`;
  if (cause.code === "HTTP_UNTRUSTED") {
    return new RepositoryError("REPOSITORY_UNTRUSTED", message, {
      cause,
      hint: "Give the certificate of the authority that signed the server's as the repository's CA, or correct its address.",
    });
  }
  // More than a range of it says nothing about the file.
  if (cause.code === "HTTP_ANSWER_TOO_LONG" && !isRange) {
    return new RepositoryError("REPOSITORY_OBJECT_DAMAGED", message, { cause });
  }
  return new RepositoryError("REPOSITORY_UNREACHABLE", message, { cause });
}

/** Scheme and host of an address from outside, without anything else that it may hold. */
function originOf(location: string | undefined): string {
  if (location === undefined || !URL.canParse(location)) return "it named none";
  const { protocol, host } = new URL(location);
  return `${protocol}//${host}`.slice(0, 300);
}
