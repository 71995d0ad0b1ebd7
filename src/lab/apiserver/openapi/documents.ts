import type { JsonObject } from "../json.ts";
import type { Registry } from "../registry/registry.ts";
import { openApiV2 } from "./v2.ts";
import { encodeOpenApiV2 } from "./v2-protobuf.ts";
import { openApiV3, openApiV3Index } from "./v3.ts";

/** With a dot: the `@` of the type that is asked for is no part of a media type (RFC 9110), and older clients give up on it. */
const V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

interface Document {
  readonly contentType: string;
  readonly bytes: Buffer;
}

/** The OpenAPI documents, made when they are first asked for and again when a custom resource has changed them. */
export class OpenApiDocuments {
  readonly #registry: Registry;
  #made = new Map<string, Document>();
  #generation = -1;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** @returns undefined where there is no such document */
  find(path: string, accept: string): Document | undefined {
    if (this.#generation !== this.#registry.generation) {
      this.#made = new Map();
      this.#generation = this.#registry.generation;
    }
    const isProtobuf = accept.includes("proto-openapi.spec.v2");
    const key = path === "/openapi/v2" ? `${path} ${isProtobuf}` : path;
    const document = this.#made.get(key) ?? this.#make(path, isProtobuf);
    if (document !== undefined) this.#made.set(key, document);
    return document;
  }

  #make(path: string, isProtobuf: boolean): Document | undefined {
    if (path === "/openapi/v2") {
      const document = openApiV2(this.#registry);
      return isProtobuf ? { contentType: V2_PROTOBUF, bytes: encodeOpenApiV2(document) } : json(document);
    }
    if (path === "/openapi/v3") return json(openApiV3Index(this.#registry));
    const document = openApiV3(this.#registry, path.slice("/openapi/v3/".length));
    return document === undefined ? undefined : json(document);
  }
}

function json(document: JsonObject): Document {
  return { contentType: "application/json", bytes: Buffer.from(JSON.stringify(document)) };
}
