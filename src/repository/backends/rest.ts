import { Agent, type IncomingMessage, request } from "node:http";
import { request as requestTls, Agent as TlsAgent } from "node:https";
import { RepositoryError } from "../errors.ts";
import { type Backend, describeFile, type FileName, type FileType } from "./backend.ts";

const NAME = /^[0-9a-f]{64}$/;
const LIST_FORMAT = "application/vnd.x.restic.rest.v2";
const LIST_LIMIT = 256 * 1024 * 1024;
const CONNECTIONS = 32;
const REQUEST_LIMIT_MS = 60_000;
const TRIES = 4;
const FIRST_PAUSE_MS = 200;

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/** A repository behind restic's REST server protocol, version 2 (doc/REST_backend.rst in restic/restic). */
export class RestBackend implements Backend {
  readonly location: string;
  readonly #url: URL;
  readonly #agent: Agent | TlsAgent;

  /** @param url may carry user name and password; they are kept out of everything that is said */
  constructor(url: string) {
    this.#url = new URL(url.endsWith("/") ? url : `${url}/`);
    const shown = new URL(this.#url);
    shown.username = "";
    shown.password = "";
    this.location = shown.href;
    const options = { keepAlive: true, maxSockets: CONNECTIONS, scheduling: "lifo" } as const;
    this.#agent = this.#url.protocol === "https:" ? new TlsAgent(options) : new Agent(options);
  }

  async list(type: FileType): Promise<string[]> {
    const what = { type, name: "" };
    const { body } = await this.#ask("GET", `${type}/`, what, { Accept: LIST_FORMAT }, LIST_LIMIT);
    let listed: unknown;
    try {
      listed = JSON.parse(body.toString("utf8"));
    } catch (cause) {
      throw new RepositoryError("REPOSITORY_UNREACHABLE", `${this.location} does not list its files as JSON`, {
        cause,
      });
    }
    const names = Array.isArray(listed) ? listed.map((entry: unknown) => nameOf(entry)) : [];
    return names.filter((name): name is string => name !== undefined && NAME.test(name));
  }

  async readAll(file: FileName, limit: number): Promise<Buffer> {
    return (await this.#ask("GET", path(file), file, {}, limit)).body;
  }

  async readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
    const range = { Range: `bytes=${offset}-${offset + length - 1}` };
    const { status, body } = await this.#ask("GET", path(file), file, range, length);
    if (status !== 206 || body.length !== length) {
      throw new RepositoryError(
        "REPOSITORY_OBJECT_DAMAGED",
        `${describeFile(file)} ends before byte ${offset + length}`,
        {
          hint: "Run `restic check`: the file was cut off.",
        },
      );
    }
    return body;
  }

  async exists(file: FileName): Promise<boolean> {
    try {
      await this.#ask("HEAD", path(file), file, {}, 0);
      return true;
    } catch (error) {
      if (error instanceof RepositoryError && error.code === "REPOSITORY_OBJECT_MISSING") return false;
      throw error;
    }
  }

  async save(file: FileName, content: Buffer): Promise<void> {
    await this.#ask("POST", path(file), file, { "Content-Type": "application/octet-stream" }, 4096, content);
  }

  async remove(file: FileName): Promise<void> {
    try {
      await this.#ask("DELETE", path(file), file, {}, 4096);
    } catch (error) {
      if (!(error instanceof RepositoryError) || error.code !== "REPOSITORY_OBJECT_MISSING") throw error;
    }
  }

  async close(): Promise<void> {
    this.#agent.destroy();
  }

  /** Asks a few times where the fault may pass; the waits double, with jitter. */
  async #ask(
    method: string,
    where: string,
    file: FileName,
    headers: Record<string, string>,
    limit: number,
    content?: Buffer,
  ): Promise<Answer> {
    for (let tried = 1; ; tried++) {
      try {
        const answer = await this.#once(method, where, headers, limit, content);
        if (answer.status < 300) return answer;
        throw this.#refusal(answer.status, file, method);
      } catch (cause) {
        const mayPass = !(cause instanceof RepositoryError) || cause.code === "REPOSITORY_UNREACHABLE";
        if (!mayPass || tried === TRIES) {
          if (cause instanceof RepositoryError) throw cause;
          throw new RepositoryError(
            "REPOSITORY_UNREACHABLE",
            `${describeFile(file)} at ${this.location} cannot be reached`,
            { cause },
          );
        }
      }
      const pause = FIRST_PAUSE_MS * 2 ** (tried - 1);
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
    }
  }

  #refusal(status: number, file: FileName, method: string): RepositoryError {
    const what = `${describeFile(file)} at ${this.location}`;
    if (status === 404) return new RepositoryError("REPOSITORY_OBJECT_MISSING", `${what} is not there`);
    if (status === 416) return new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} was cut off`);
    if (status === 401 || status === 403) {
      const code = method === "GET" || method === "HEAD" ? "REPOSITORY_FORBIDDEN" : "REPOSITORY_READ_ONLY";
      return new RepositoryError(code, `${what} was refused with status ${status}`, {
        hint: "Check the user name and password, and whether the server is in append-only mode.",
      });
    }
    return new RepositoryError("REPOSITORY_UNREACHABLE", `${what}: the server answered with status ${status}`);
  }

  #once(
    method: string,
    where: string,
    headers: Record<string, string>,
    limit: number,
    content?: Buffer,
  ): Promise<Answer> {
    const send = this.#url.protocol === "https:" ? requestTls : request;
    const url = new URL(where, this.#url);
    const options = { method, headers, agent: this.#agent, timeout: REQUEST_LIMIT_MS, auth: credentials(this.#url) };
    return new Promise((resolve, reject) => {
      const asked = send(url, options, (response) => {
        collect(response, method === "HEAD" ? 0 : limit).then(
          (body) => resolve({ status: response.statusCode ?? 0, body }),
          reject,
        );
      });
      asked.once("timeout", () => asked.destroy(new Error("no answer in time")));
      asked.once("error", reject);
      asked.end(content);
    });
  }
}

async function collect(response: IncomingMessage, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    length += piece.length;
    // An error's page is nobody's concern, and may be longer than what was asked for.
    if (length > limit && (response.statusCode ?? 0) < 300) throw new Error(`an answer of over ${limit} bytes`);
    if (length <= limit) pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function path(file: FileName): string {
  return file.type === "config" ? "config" : `${file.type}/${file.name}`;
}

function credentials(url: URL): string | undefined {
  return url.username === "" ? undefined : `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
}

function nameOf(entry: unknown): string | undefined {
  const isNamed = typeof entry === "object" && entry !== null && "name" in entry && typeof entry.name === "string";
  return isNamed ? (entry as { name: string }).name : undefined;
}
