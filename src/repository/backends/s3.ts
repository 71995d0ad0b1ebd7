import { type Clock, systemClock } from "../../base/clock.ts";
import { isHexId } from "../blob-id.ts";
import { RepositoryError } from "../errors.ts";
import { type Backend, type FileName, type FileType, REMOTE_REQUEST_COST } from "./backend.ts";
import { type HttpAnswer, HttpClient, type HttpClientOptions, type HttpRequest } from "./http-client.ts";
import { detectLayout, type Layout } from "./layout.ts";
import { Requests, redirected, type Service } from "./requests.ts";
import { encodePart, type S3Credentials, signedHeaders } from "./s3-signature.ts";
import { errorCodeIn, parsePage, regionIn } from "./s3-xml.ts";
import { mayPass } from "./statuses.ts";

const PAGE_KEYS = 1000;
/** A key has 1024 bytes at most, which XML may make six times as many. */
const PAGE_LIMIT = 8 * 1024 * 1024;
/** Some 200,000 files. Packs, of which there may be more, are never listed. */
const PAGES_LIMIT = 200;
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;

/** Where a repository lies in S3. */
export interface S3Place {
  readonly bucket: string;
  /** The folder in the bucket; the bucket's root by default. */
  readonly prefix?: string | undefined;
  readonly region: string;
  /** http or https, without a path; AWS's own for the region by default. */
  readonly endpoint?: string | undefined;
  /** Whether the bucket is named by the path or by the host; by the host on AWS, by the path elsewhere. */
  readonly addressing?: "Path" | "VirtualHost" | undefined;
}

export interface S3Options extends HttpClientOptions {
  /** Asked for with each request; `renew` where the last ones were refused. */
  readonly credentials: (renew: boolean) => Promise<S3Credentials>;
  readonly clock?: Clock;
  readonly random?: () => number;
}

/** A repository in a bucket of S3 or of what speaks its protocol, in either of the layouts that restic knows there. */
export class S3Backend implements Backend {
  readonly location: string;
  readonly requestCost = REMOTE_REQUEST_COST;
  /** The bucket's; objects' keys go behind it. */
  readonly address: URL;
  readonly #folder: string;
  readonly #client: HttpClient;
  readonly #requests: Requests;
  #layout: Promise<Layout> | undefined;

  /** @throws RepositoryError REPOSITORY_UNSUPPORTED where the place is none */
  constructor(place: S3Place, options: S3Options) {
    const { bucket, region } = place;
    const parts = (place.prefix ?? "").split("/").filter((part) => part !== "");
    if (!BUCKET.test(bucket) || parts.some((part) => part === "." || part === "..")) {
      throw new RepositoryError("REPOSITORY_UNSUPPORTED", `bucket ${bucket} or its prefix has an impossible name`);
    }
    this.address = bucketUrl(place);
    this.#folder = parts.map((part) => `${part}/`).join("");
    this.location = `s3:${this.address.href}${this.#folder}`;
    this.#client = new HttpClient(options);
    const { clock = systemClock, random = Math.random, credentials } = options;
    const service = new S3Service(this.location, region, credentials, clock);
    this.#requests = new Requests(this.#client, service, { clock, random });
  }

  async list(type: FileType): Promise<string[]> {
    const folder = (await this.#detected()).folder(type);
    return this.#names(folder, { type, name: "" });
  }

  async readAll(file: FileName, limit: number): Promise<Buffer> {
    return this.#requests.readAll(await this.#place(file), file, limit);
  }

  async readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
    return this.#requests.readRange(await this.#place(file), file, offset, length);
  }

  async exists(file: FileName): Promise<boolean> {
    return this.#requests.exists(await this.#place(file), file);
  }

  async save(file: FileName, content: Buffer): Promise<void> {
    const headers = { "content-length": String(content.length), "content-type": "application/octet-stream" };
    const request: HttpRequest = { method: "PUT", url: await this.#place(file), headers, content, limit: 4096 };
    await this.#requests.ask(request, file);
  }

  async remove(file: FileName): Promise<void> {
    await this.#requests.remove(await this.#place(file), file);
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  async #place(file: FileName): Promise<URL> {
    return this.#object(file.type === "config" ? "config" : (await this.#detected()).path(file));
  }

  #object(path: string): URL {
    const encoded = `${this.#folder}${path}`.split("/").map(encodePart).join("/");
    return new URL(`${this.address.pathname}${encoded}`, this.address);
  }

  /** Looked up once, when the bucket answers. */
  #detected(): Promise<Layout> {
    const what: FileName = { type: "keys", name: "" };
    this.#layout ??= detectLayout(async (folder) => (await this.#names(folder, what, 1)).length > 0).catch(
      (error: unknown) => {
        this.#layout = undefined;
        throw error;
      },
    );
    return this.#layout;
  }

  /** Ids that name objects below a folder. */
  async #names(folder: string, what: FileName, pages = PAGES_LIMIT): Promise<string[]> {
    const names = new Set<string>();
    let from: string | undefined;
    for (let page = 0; page < pages; page++) {
      const { keys, next } = await this.#page(`${this.#folder}${folder}/`, from, what);
      for (const key of keys) {
        const name = key.slice(key.lastIndexOf("/") + 1);
        if (isHexId(name)) names.add(name);
      }
      if (next === undefined) return [...names];
      from = next;
    }
    if (pages === PAGES_LIMIT) {
      throw new RepositoryError("REPOSITORY_UNSUPPORTED", `${folder} at ${this.location} holds too many objects`, {
        hint: "Forget and prune old snapshots, or remove what does not belong to the repository.",
      });
    }
    return [...names];
  }

  async #page(prefix: string, from: string | undefined, what: FileName) {
    const query = { "list-type": "2", "max-keys": String(PAGE_KEYS), prefix };
    const all = Object.entries(from === undefined ? query : { ...query, "continuation-token": from });
    const url = new URL(this.address);
    // A path of the bucket alone has no slash at its end, as AWS's own clients have it: some servers sign nothing else.
    if (url.pathname !== "/") url.pathname = url.pathname.slice(0, -1);
    // Encoded as it is signed: `URLSearchParams` would write a space as a plus.
    url.search = all.map(([name, value]) => `${name}=${encodePart(value)}`).join("&");
    const request = { method: "GET", url, headers: {}, limit: PAGE_LIMIT } as const;
    const { body } = await this.#requests.ask(request, what);
    const page = parsePage(body.toString("utf8"));
    if (page === undefined) {
      throw new RepositoryError("REPOSITORY_UNREACHABLE", `${this.location} does not list its objects as S3 does`, {
        hint: "Check the endpoint.",
      });
    }
    return page;
  }
}

function bucketUrl({ bucket, region, endpoint, addressing }: S3Place): URL {
  const suffix = region.startsWith("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  const url = new URL(endpoint ?? `https://s3.${region}.${suffix}`);
  // A certificate's wildcard covers no dot.
  const byHost =
    addressing === undefined ? endpoint === undefined && !bucket.includes(".") : addressing === "VirtualHost";
  const host = byHost ? `${bucket}.${url.host}` : url.host;
  return new URL(`${url.protocol}//${host}/${byHost ? "" : `${bucket}/`}`);
}

function regionNamed(header: string | string[] | undefined): string | undefined {
  return typeof header === "string" && /^[a-z0-9-]{1,32}$/.test(header) ? header : undefined;
}

/** What S3 says when credentials are old or gone. */
const CREDENTIALS_WRONG = new Set(["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"]);

class S3Service implements Service {
  readonly location: string;
  readonly #region: string;
  readonly #credentials: (renew: boolean) => Promise<S3Credentials>;
  readonly #clock: Clock;

  constructor(location: string, region: string, credentials: (renew: boolean) => Promise<S3Credentials>, clock: Clock) {
    this.location = location;
    this.#region = region;
    this.#credentials = credentials;
    this.#clock = clock;
  }

  async authorize(request: HttpRequest, renew: boolean): Promise<HttpRequest> {
    const credentials = await this.#credentials(renew);
    return { ...request, headers: signedHeaders(request, credentials, this.#region, this.#clock.now()) };
  }

  refusal(answer: HttpAnswer, { method }: HttpRequest, what: string): RepositoryError {
    const { status, headers, body } = answer;
    const xml = body.toString("utf8");
    const code = errorCodeIn(xml);
    const message = `${what}: ${code ?? "refused"} (${status})`;
    if (code === "NoSuchBucket") {
      return new RepositoryError("REPOSITORY_NOT_FOUND", message, { hint: "Check the bucket's name and the region." });
    }
    if (status === 404) return new RepositoryError("REPOSITORY_OBJECT_MISSING", `${what} is not there`);
    if (status === 416) {
      return new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} was cut off`, {
        hint: "Run `restic check`: it is shorter than it was written.",
      });
    }
    if (code === "RequestTimeTooSkewed") {
      return new RepositoryError("REPOSITORY_UNREACHABLE", message, {
        hint: "Set the clock of this node or the server.",
      });
    }
    if (code === "InvalidObjectState") {
      return new RepositoryError("REPOSITORY_FORBIDDEN", message, {
        hint: "The object lies in an archive class: restore it to a class that can be read.",
      });
    }
    const region = regionIn(xml) ?? regionNamed(headers["x-amz-bucket-region"]);
    if (region !== undefined && region !== this.#region) {
      return new RepositoryError("REPOSITORY_REDIRECTED", message, { hint: `The bucket is in region ${region}.` });
    }
    if (status < 400) return redirected(answer, what);
    if (code !== undefined && CREDENTIALS_WRONG.has(code)) {
      return new RepositoryError("REPOSITORY_FORBIDDEN", message, {
        hint: "Check access key and secret key in the repository's Secret; they are picked up without further ado.",
      });
    }
    if (status === 401 || status === 403 || status === 405) {
      const isRead = method === "GET" || method === "HEAD";
      return new RepositoryError(isRead ? "REPOSITORY_FORBIDDEN" : "REPOSITORY_READ_ONLY", message, {
        hint: isRead
          ? "Check the keys in the repository's Secret, and that they give s3:GetObject and s3:ListBucket on the bucket."
          : "To pin snapshots, the key needs s3:PutObject and s3:DeleteObject as well.",
      });
    }
    if (mayPass(status) || code === "RequestTimeout" || code === "OperationAborted") {
      return new RepositoryError("REPOSITORY_UNREACHABLE", message);
    }
    return new RepositoryError("REPOSITORY_UNSUPPORTED", message, {
      hint: "Check the endpoint, the bucket's name, and whether it is named by path or by host.",
    });
  }
}
