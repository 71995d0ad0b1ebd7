import { type Clock, systemClock } from "../../base/clock.ts";
import { isHexId } from "../blob-id.ts";
import { RepositoryError } from "../errors.ts";
import { type Backend, type FileName, type FileType, REMOTE_REQUEST_COST } from "./backend.ts";
import { type HttpAnswer, HttpClient, type HttpClientOptions, type HttpRequest } from "./http-client.ts";
import { Requests, redirected, type Service } from "./requests.ts";
import { mayPass } from "./statuses.ts";

/** Version 2, with sizes; a server that knows only version 1 answers with names alone. */
const LIST_FORMAT = "application/vnd.x.restic.rest.v2";
/** Some 150,000 files. Packs, of which there may be more, are never listed. */
const LIST_LIMIT = 16 * 1024 * 1024;

/** User name and password of HTTP's basic authentication. */
export interface BasicCredentials {
  readonly username: string;
  readonly password: string;
}

export interface RestOptions extends HttpClientOptions {
  /** Asked for with each request; `renew` where the last ones were refused. Undefined: none are needed. */
  readonly credentials?: (renew: boolean) => Promise<BasicCredentials | undefined>;
  readonly clock?: Clock;
  readonly random?: () => number;
}

/** A repository behind restic's REST server protocol, versions 1 and 2 (doc/REST_backend.rst in restic/restic). */
export class RestBackend implements Backend {
  readonly location: string;
  readonly requestCost = REMOTE_REQUEST_COST;
  readonly #url: URL;
  readonly #client: HttpClient;
  readonly #requests: Requests;

  /** @param url http or https, the repository's path in it; holds no credentials */
  constructor(url: string, options: RestOptions = {}) {
    this.#url = new URL(url.endsWith("/") ? url : `${url}/`);
    if (this.#url.username !== "" || this.#url.password !== "") {
      throw new RepositoryError("REPOSITORY_UNSUPPORTED", "the repository's URL holds credentials", {
        hint: "Give user name and password in a Secret.",
      });
    }
    this.location = this.#url.href;
    this.#client = new HttpClient(options);
    const service = new RestService(this.location, options.credentials ?? (async () => undefined));
    const { clock = systemClock, random = Math.random } = options;
    this.#requests = new Requests(this.#client, service, { clock, random });
  }

  async list(type: FileType): Promise<string[]> {
    const url = new URL(`${type}/`, this.#url);
    const request: HttpRequest = { method: "GET", url, headers: { accept: LIST_FORMAT }, limit: LIST_LIMIT };
    const { body } = await this.#requests.ask(request, { type, name: "" });
    return namesIn(body, this.location);
  }

  async readAll(file: FileName, limit: number): Promise<Buffer> {
    return this.#requests.readAll(this.#place(file), file, limit);
  }

  async readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
    return this.#requests.readRange(this.#place(file), file, offset, length);
  }

  async exists(file: FileName): Promise<boolean> {
    return this.#requests.exists(this.#place(file), file);
  }

  async save(file: FileName, content: Buffer): Promise<void> {
    const headers = { "content-type": "application/octet-stream", "content-length": String(content.length) };
    const request: HttpRequest = { method: "POST", url: this.#place(file), headers, content, limit: 4096 };
    try {
      await this.#requests.ask(request, file);
    } catch (error) {
      // A server refuses what is there already, and after an answer that was lost on its way that is our own file: its name is
      // the hash of its content.
      const isRefused = error instanceof RepositoryError && error.code === "REPOSITORY_READ_ONLY";
      if (!isRefused || file.type === "config" || !(await this.exists(file))) throw error;
    }
  }

  async remove(file: FileName): Promise<void> {
    return this.#requests.remove(this.#place(file), file);
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  /** Names come from the repository's index and may be anything, so they are checked here. */
  #place(file: FileName): URL {
    if (file.type === "config") return new URL("config", this.#url);
    if (!isHexId(file.name)) {
      throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${file.type}: not the name of a file of restic`);
    }
    return new URL(`${file.type}/${file.name}`, this.#url);
  }
}

class RestService implements Service {
  readonly location: string;
  readonly #credentials: (renew: boolean) => Promise<BasicCredentials | undefined>;

  constructor(location: string, credentials: (renew: boolean) => Promise<BasicCredentials | undefined>) {
    this.location = location;
    this.#credentials = credentials;
  }

  async authorize(request: HttpRequest, renew: boolean): Promise<HttpRequest> {
    const found = await this.#credentials(renew);
    if (found === undefined) return request;
    const pair = Buffer.from(`${found.username}:${found.password}`).toString("base64");
    return { ...request, headers: { ...request.headers, authorization: `Basic ${pair}` } };
  }

  refusal(answer: HttpAnswer, { method }: HttpRequest, what: string): RepositoryError {
    const { status } = answer;
    if (status < 400) return redirected(answer, what);
    if (status === 404) return new RepositoryError("REPOSITORY_OBJECT_MISSING", `${what} is not there`);
    if (status === 416) {
      return new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} was cut off`, {
        hint: "Run `restic check`: it is shorter than it was written.",
      });
    }
    if (status === 401 || (status === 403 && (method === "GET" || method === "HEAD"))) {
      return new RepositoryError("REPOSITORY_FORBIDDEN", `${what} was refused with status ${status}`, {
        hint: "Check the user name and password in the repository's Secret.",
      });
    }
    if (status === 403 || status === 405) {
      return new RepositoryError("REPOSITORY_READ_ONLY", `${what} may not be changed: status ${status}`, {
        hint: "Check whether the server is in append-only mode, or the user may only read.",
      });
    }
    const message = `${what}: the server answered with status ${status}`;
    if (mayPass(status)) return new RepositoryError("REPOSITORY_UNREACHABLE", message);
    return new RepositoryError("REPOSITORY_UNSUPPORTED", message, {
      hint: "Check that the URL is that of a repository on a restic REST server.",
    });
  }
}

/** @throws RepositoryError REPOSITORY_UNREACHABLE where it is no listing */
function namesIn(body: Buffer, location: string): string[] {
  let listed: unknown;
  try {
    listed = JSON.parse(body.toString("utf8"));
  } catch {
    listed = undefined;
  }
  // A server writes `null` for an empty list.
  if (listed === null) return [];
  if (!Array.isArray(listed)) {
    throw new RepositoryError("REPOSITORY_UNREACHABLE", `${location} does not list its files as JSON`, {
      hint: "Check that the URL is that of a repository on a restic REST server.",
    });
  }
  const names = listed.map((entry: unknown) => {
    const isNamed = typeof entry === "object" && entry !== null && "name" in entry;
    return isNamed ? entry.name : entry;
  });
  return names.filter((name): name is string => typeof name === "string" && isHexId(name));
}
