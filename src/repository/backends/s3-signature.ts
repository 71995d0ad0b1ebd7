import { createHash, createHmac } from "node:crypto";

/** What requests to S3 are signed with. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of credentials that were lent for a time. */
  readonly sessionToken?: string | undefined;
}

export interface SignedParts {
  readonly method: string;
  /** Its path and query are encoded as they are sent. */
  readonly url: URL;
  /** All of them are signed. */
  readonly headers: Readonly<Record<string, string>>;
  readonly content?: Uint8Array | undefined;
}

const EMPTY = createHash("sha256").digest("hex");

/**
 * The headers of a request to S3, its signature among them (AWS Signature Version 4 in the Authorization header; the path is
 * encoded once, as S3 alone has it).
 *
 * @param now milliseconds since the epoch; S3 refuses what is 15 minutes off
 */
export function signedHeaders(
  parts: SignedParts,
  credentials: S3Credentials,
  region: string,
  now: number,
): Record<string, string> {
  const { method, url, content } = parts;
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  const time = new Date(now).toISOString().replace(/[-:]|\.\d+/g, "");
  const date = time.slice(0, 8);
  const headers: Record<string, string> = {
    ...parts.headers,
    host: url.host,
    "x-amz-content-sha256": content === undefined ? EMPTY : hash(content),
    "x-amz-date": time,
    ...(sessionToken === undefined ? {} : { "x-amz-security-token": sessionToken }),
  };
  const names = Object.keys(headers).sort();
  const signed = names.join(";");
  const canonical = [
    method,
    url.pathname,
    canonicalQuery(url),
    ...names.map((name) => `${name}:${(headers[name] ?? "").trim().replace(/ +/g, " ")}`),
    "",
    signed,
    headers["x-amz-content-sha256"],
  ].join("\n");
  const scope = `${date}/${region}/s3/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", time, scope, hash(canonical)].join("\n");
  const key = [date, region, "s3", "aws4_request"].reduce<string | Buffer>(mac, `AWS4${secretAccessKey}`);
  const signature = mac(key, text).toString("hex");
  headers.authorization = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`;
  return headers;
}

function canonicalQuery(url: URL): string {
  return [...url.searchParams]
    .map(([name, value]) => `${encodePart(name)}=${encodePart(value)}`)
    .sort()
    .join("&");
}

/** Everything but RFC 3986's unreserved characters, percent-encoded. */
export function encodePart(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (found) => `%${found.charCodeAt(0).toString(16).toUpperCase()}`);
}

function hash(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

function mac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
