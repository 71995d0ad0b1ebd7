import { arrayAt, isObject, type JsonObject, type JsonValue, objectAt, stringAt } from "../json.ts";
import { ProtobufWriter } from "../protobuf/writer.ts";

/**
 * Swagger 2.0 as protocol buffer message `openapi.v2.Document` (gnostic's OpenAPIv2.proto), the only form of
 * `/openapi/v2` that kubectl understands. Holds what `openApiV2` writes, no more.
 */
export function encodeOpenApiV2(document: JsonObject): Buffer {
  const info = new ProtobufWriter()
    .text(1, stringAt(document, "info", "title"))
    .text(2, stringAt(document, "info", "version"));
  return new ProtobufWriter()
    .text(1, stringAt(document, "swagger"))
    .message(2, info)
    .message(8, pathsOf(objectAt(document, "paths")))
    .message(9, namedSchemas(objectAt(document, "definitions")))
    .finish();
}

function pathsOf(paths: JsonObject): ProtobufWriter {
  const writer = new ProtobufWriter();
  for (const [name, item] of Object.entries(paths)) {
    writer.message(2, new ProtobufWriter().text(1, name).message(2, pathItem(isObject(item) ? item : {})));
  }
  return writer;
}

const METHODS = { get: 2, put: 3, post: 4, delete: 5, patch: 8 } as const;

function pathItem(item: JsonObject): ProtobufWriter {
  const writer = new ProtobufWriter();
  for (const [method, field] of Object.entries(METHODS)) {
    const operation = item[method];
    if (isObject(operation)) writer.message(field, operationOf(operation));
  }
  return writer;
}

function operationOf(operation: JsonObject): ProtobufWriter {
  const writer = new ProtobufWriter().text(5, stringAt(operation, "operationId"));
  for (const type of arrayAt(operation, "produces")) writer.text(6, String(type));
  for (const type of arrayAt(operation, "consumes")) writer.text(7, String(type));
  for (const parameter of arrayAt(operation, "parameters").filter(isObject)) {
    writer.message(8, new ProtobufWriter().message(1, parameterOf(parameter)));
  }
  const responses = new ProtobufWriter();
  for (const [code, response] of Object.entries(objectAt(operation, "responses"))) {
    const schema = new ProtobufWriter().message(1, schemaOf(objectAt(response, "schema")));
    const value = new ProtobufWriter().text(1, stringAt(response, "description")).message(2, schema);
    responses.message(1, new ProtobufWriter().text(1, code).message(2, new ProtobufWriter().message(1, value)));
  }
  return extensions(writer.message(9, responses), 13, operation);
}

function parameterOf(parameter: JsonObject): ProtobufWriter {
  if (parameter.in === "body") {
    const body = new ProtobufWriter()
      .text(2, stringAt(parameter, "name"))
      .text(3, "body")
      .bool(4, parameter.required === true)
      .message(5, schemaOf(objectAt(parameter, "schema")));
    return new ProtobufWriter().message(1, body);
  }
  const query = new ProtobufWriter()
    .text(2, stringAt(parameter, "in"))
    .text(4, stringAt(parameter, "name"))
    .text(6, stringAt(parameter, "type"))
    .bool(20, parameter.uniqueItems === true);
  return new ProtobufWriter().message(2, new ProtobufWriter().message(3, query));
}

function namedSchemas(schemas: JsonObject): ProtobufWriter {
  const writer = new ProtobufWriter();
  for (const [name, schema] of Object.entries(schemas)) {
    writer.message(1, new ProtobufWriter().text(1, name).message(2, schemaOf(isObject(schema) ? schema : {})));
  }
  return writer;
}

function schemaOf(schema: JsonObject): ProtobufWriter {
  const writer = new ProtobufWriter()
    .text(1, stringAt(schema, "$ref"))
    .text(2, stringAt(schema, "format"))
    .text(4, stringAt(schema, "description"));
  for (const name of arrayAt(schema, "required")) writer.text(19, String(name));
  for (const value of arrayAt(schema, "enum")) writer.message(20, anyOf(value));
  if (isObject(schema.additionalProperties)) {
    writer.message(21, new ProtobufWriter().message(1, schemaOf(schema.additionalProperties)));
  }
  const type = stringAt(schema, "type");
  if (type !== "") writer.message(22, new ProtobufWriter().text(1, type));
  if (isObject(schema.items)) writer.message(23, new ProtobufWriter().message(1, schemaOf(schema.items)));
  if (isObject(schema.properties)) writer.message(25, namedSchemas(schema.properties));
  return extensions(writer, 31, schema);
}

function extensions(writer: ProtobufWriter, field: number, object: JsonObject): ProtobufWriter {
  for (const [name, value] of Object.entries(object)) {
    if (!name.startsWith("x-") || value === undefined) continue;
    writer.message(field, new ProtobufWriter().text(1, name).message(2, anyOf(value)));
  }
  return writer;
}

/** Anything, as YAML: JSON is YAML. */
function anyOf(value: JsonValue): ProtobufWriter {
  return new ProtobufWriter().text(2, JSON.stringify(value));
}
