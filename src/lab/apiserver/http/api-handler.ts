import type { IncomingMessage, ServerResponse } from "node:http";
import { isObject, type JsonObject, objectAt, stringAt } from "../json.ts";
import { mediaTypeOf, parseBody } from "../media.ts";
import type { KubeObject } from "../object.ts";
import type { Cluster, DeleteOptions, WriteOptions } from "../operations/context.ts";
import { createObject } from "../operations/creator.ts";
import { decodeObject } from "../operations/decode.ts";
import { deleteObject } from "../operations/deleter.ts";
import { evict } from "../operations/eviction.ts";
import { patchJson, patchObject } from "../operations/patcher.ts";
import { readObject } from "../operations/reader.ts";
import { scaleOf, withScale } from "../operations/scale.ts";
import { updateObject } from "../operations/updater.ts";
import { type ResourceDefinition, type ScalePaths, subjectOf, type VersionDefinition } from "../registry/definition.ts";
import { answerReview, REVIEWS, type User } from "../reviews/reviews.ts";
import { selectionOf } from "../selectors/selection.ts";
import { conflict, methodNotAllowed, noSuchResource } from "../status-error.ts";
import { readBody } from "./body.ts";
import { Lister } from "./list.ts";
import { deleteOptionsOf, writeOptionsOf } from "./options.ts";
import { type PodLogs, servePodLog } from "./pod-log.ts";
import { negotiate, Presenter } from "./representation.ts";
import { parseResourcePath, type RequestInfo } from "./request-info.ts";
import { sendJson } from "./respond.ts";
import { serveWatch } from "./watch.ts";

/** One request as far as it is understood. */
interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly info: RequestInfo;
  readonly definition: ResourceDefinition;
  readonly version: VersionDefinition;
  readonly query: URLSearchParams;
}

/** Serves the paths of resources: `/api/v1/…` and `/apis/GROUP/VERSION/…`. */
export class ApiHandler {
  readonly #cluster: Cluster;
  readonly #lister: Lister;
  readonly #podLogs: PodLogs | undefined;
  readonly #stop: AbortSignal;

  constructor(cluster: Cluster, podLogs: PodLogs | undefined, stop: AbortSignal) {
    this.#cluster = cluster;
    this.#lister = new Lister(cluster.store);
    this.#podLogs = podLogs;
    this.#stop = stop;
  }

  /** @throws StatusError whatever is to be told to the client */
  async handle(request: IncomingMessage, response: ServerResponse, url: URL, user: User): Promise<void> {
    const info = parseResourcePath(url.pathname);
    if (info === undefined) throw noSuchResource();
    const asked = REVIEWS.find(
      (review) => review.group === info.group && review.version === info.version && review.resource === info.resource,
    );
    if (asked !== undefined) {
      if (request.method !== "POST") throw methodNotAllowed();
      const body = parseBody(await readBody(request), mediaTypeOf(request.headers["content-type"]));
      sendJson(response, 201, answerReview(asked.kind, body, user));
      return;
    }
    const definition = this.#cluster.registry.find(info.group, info.resource);
    const version = definition?.versions.find((candidate) => candidate.version === info.version);
    if (definition === undefined || version === undefined) throw noSuchResource();
    if (!definition.namespaced && info.namespace !== "") throw noSuchResource();
    if (definition.namespaced && info.name !== "" && info.namespace === "") throw noSuchResource();
    const call = { request, response, info, definition, version, query: url.searchParams };
    if (version.deprecation !== undefined) warn(response, version.deprecation);
    if (info.subresource !== "" && !this.#isObjectPart(call)) return this.#subresource(call);
    return info.name === "" ? this.#collection(call) : this.#object(call);
  }

  #isObjectPart({ info, version }: Call): boolean {
    return info.subresource === "status" && version.status;
  }

  async #collection(call: Call): Promise<void> {
    const { request, response, info, definition, query } = call;
    switch (request.method) {
      case "GET":
        if (query.get("watch") === "true" || query.get("watch") === "1") return this.#watch(call);
        return this.#list(call);
      case "POST": {
        const body = await this.#body(call);
        const { namespace } = info;
        const options = writeOptionsOf(query, request, "", (message) => warn(response, message));
        const created = createObject(this.#cluster, definition, info.version, namespace, body, options);
        return this.#answer(call, 201, created);
      }
      case "DELETE":
        return this.#deleteCollection(call);
    }
    throw methodNotAllowed();
  }

  async #object(call: Call): Promise<void> {
    const { request, info, definition } = call;
    const key = { namespace: info.namespace, name: info.name };
    switch (request.method) {
      case "GET":
        if (call.query.get("watch") === "true") return this.#watch(call);
        return this.#answer(call, 200, readObject(this.#cluster.store, definition, key.namespace, key.name));
      case "PUT": {
        const body = await this.#body(call);
        const options = this.#writeOptions(call);
        const decoded = decodeObject(definition, info.version, body, options);
        return this.#answer(
          call,
          200,
          updateObject(this.#cluster, definition, info.version, key, options, () => decoded),
        );
      }
      case "PATCH": {
        const bytes = await readBody(request);
        const mediaType = mediaTypeOf(request.headers["content-type"]);
        const force = call.query.get("force") === "true" || call.query.get("force") === "1";
        const patch = { mediaType, bytes, force };
        const { object, created } = patchObject(
          this.#cluster,
          definition,
          info.version,
          key,
          patch,
          this.#writeOptions(call),
        );
        return this.#answer(call, created ? 201 : 200, object);
      }
      case "DELETE": {
        if (info.subresource !== "") break;
        return this.#delete(call, deleteOptionsOf(call.query, await this.#optionalBody(call)));
      }
    }
    throw methodNotAllowed();
  }

  #delete(call: Call, options: DeleteOptions): void {
    const { info, definition } = call;
    const deletion = deleteObject(this.#cluster, definition, info, options);
    if (!deletion.gone || definition.strategy.returnsDeleted) {
      this.#answer(call, 200, deletion.object);
      return;
    }
    sendJson(call.response, 200, {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Success",
      details: {
        name: info.name,
        ...(info.group === "" ? {} : { group: info.group }),
        kind: definition.resource,
        uid: deletion.object.metadata.uid,
      },
    });
  }

  async #deleteCollection(call: Call): Promise<void> {
    const { info, definition, query } = call;
    const options = deleteOptionsOf(query, await this.#optionalBody(call));
    const selected = selectionOf(definition, info.version, info.namespace, "", query);
    const objects = this.#cluster.store.list(definition.storageKey, info.namespace).filter(selected);
    for (const { metadata } of objects) {
      deleteObject(
        this.#cluster,
        definition,
        { namespace: metadata.namespace ?? "", name: metadata.name ?? "" },
        options,
      );
    }
    const presenter = new Presenter(definition, info.version, { as: "Object" });
    const metadata = { resourceVersion: String(this.#cluster.store.revision) };
    sendJson(call.response, 200, presenter.list(objects, metadata, this.#cluster.clock.now()));
  }

  #list(call: Call): void {
    const { info, definition, query, response } = call;
    const presenter = this.#presenter(call);
    const selected = selectionOf(definition, info.version, info.namespace, "", query);
    const page = this.#lister.list(definition.storageKey, info.namespace, selected, query);
    const metadata: JsonObject = { resourceVersion: String(page.revision) };
    if (page.continueToken !== "") {
      metadata.continue = page.continueToken;
      // With selectors the real server does not know how many are left.
      if (!query.has("labelSelector") && !query.has("fieldSelector")) metadata.remainingItemCount = page.remaining;
    }
    sendJson(response, 200, presenter.list(page.items, metadata, this.#cluster.clock.now()));
  }

  #watch(call: Call): void {
    const { info, definition, query, response } = call;
    const selected = selectionOf(definition, info.version, info.namespace, info.name, query);
    const presenter = this.#presenter(call);
    const { namespace, version } = info;
    const watch = { definition, version, selected, namespace, presenter, query };
    serveWatch(this.#cluster.store, watch, response, () => this.#cluster.clock.now(), this.#stop);
  }

  async #subresource(call: Call): Promise<void> {
    const { info, definition, version } = call;
    if (info.subresource === "scale" && version.scale !== undefined) return this.#scale(call, version.scale);
    if (!definition.subresources.includes(info.subresource)) throw noSuchResource();
    switch (info.subresource) {
      case "log":
        if (this.#podLogs === undefined) throw noSuchResource();
        return servePodLog(call, this.#cluster.store, this.#podLogs);
      case "eviction":
        return this.#evict(call);
      case "binding":
        return this.#bind(call);
      case "finalize":
        return this.#finalize(call);
    }
    throw noSuchResource();
  }

  async #scale(call: Call, paths: ScalePaths): Promise<void> {
    const { request, response, info, definition } = call;
    const read = () => readObject(this.#cluster.store, definition, info.namespace, info.name);
    if (request.method === "GET") {
      sendJson(response, 200, scaleOf(read(), paths));
      return;
    }
    if (request.method !== "PUT" && request.method !== "PATCH") throw methodNotAllowed();
    const bytes = await readBody(request);
    const patch = { mediaType: mediaTypeOf(request.headers["content-type"]), bytes, force: false };
    const current = scaleOf(read(), paths);
    const scale = request.method === "PUT" ? parseBody(bytes, patch.mediaType) : patchJson(current, patch);
    const options = this.#writeOptions(call);
    const written = updateObject(this.#cluster, definition, info.version, info, options, (old) =>
      withScale(old, scale, paths),
    );
    sendJson(response, 200, scaleOf(written, paths));
  }

  async #evict(call: Call): Promise<void> {
    if (call.request.method !== "POST") throw methodNotAllowed();
    const { definition, info, query } = call;
    const body = await this.#optionalBody(call);
    evict(this.#cluster, definition, info, body, deleteOptionsOf(query, objectAt(body, "deleteOptions")));
    sendJson(call.response, 201, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" });
  }

  async #bind(call: Call): Promise<void> {
    if (call.request.method !== "POST") throw methodNotAllowed();
    const node = stringAt(await this.#optionalBody(call), "target", "name");
    const { definition, info } = call;
    updateObject(this.#cluster, definition, info.version, info, this.#writeOptions(call), (old) => {
      if (stringAt(old, "spec", "nodeName") !== "") {
        throw conflict(
          subjectOf(definition, info.name),
          `pod ${info.name} is already assigned to node "${stringAt(old, "spec", "nodeName")}"`,
        );
      }
      return { ...old, spec: { ...objectAt(old, "spec"), nodeName: node } };
    });
    sendJson(call.response, 201, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 });
  }

  async #finalize(call: Call): Promise<void> {
    if (call.request.method !== "PUT") throw methodNotAllowed();
    const { definition, info } = call;
    const options = this.#writeOptions(call);
    const decoded = decodeObject(definition, info.version, await this.#body(call), options);
    this.#answer(
      call,
      200,
      updateObject(this.#cluster, definition, info.version, info, options, () => decoded),
    );
  }

  #presenter({ request, definition, info, query }: Call): Presenter {
    return new Presenter(definition, info.version, negotiate(request.headers.accept, query.get("includeObject")));
  }

  #answer(call: Call, status: number, stored: KubeObject): void {
    sendJson(call.response, status, this.#presenter(call).one(stored, this.#cluster.clock.now()));
  }

  #writeOptions({ query, request, info, response }: Call): WriteOptions {
    return writeOptionsOf(query, request, info.subresource, (message) => warn(response, message));
  }

  async #body({ request }: Call): Promise<unknown> {
    return parseBody(await readBody(request), mediaTypeOf(request.headers["content-type"]));
  }

  async #optionalBody({ request }: Call): Promise<JsonObject> {
    const bytes = await readBody(request);
    if (bytes.length === 0) return {};
    const body = parseBody(bytes, mediaTypeOf(request.headers["content-type"]));
    return isObject(body) ? body : {};
  }
}

/** RFC 7234 section 5.5: code 299, no agent. */
function warn(response: ServerResponse, message: string): void {
  response.appendHeader("warning", `299 - "${message.replaceAll(/["\\]/g, "\\$&").replaceAll(/[^\x20-\x7e]/g, "?")}"`);
}
