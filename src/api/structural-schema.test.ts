import { expect, test } from "@jest/globals";
import { customResourceDefinition } from "./custom-resource-definition.ts";
import { GROUP } from "./group.ts";
import { RESOURCE_KINDS } from "./resource-kinds.ts";
import { type Schema, structuralProblems } from "./testing/structural-schema.ts";

interface Definition {
  metadata: { name: string };
  spec: {
    group: string;
    scope: string;
    preserveUnknownFields?: boolean;
    names: { kind: string; listKind: string; plural: string; singular: string; shortNames: string[] };
    versions: {
      name: string;
      served: boolean;
      storage: boolean;
      subresources?: { status?: object };
      additionalPrinterColumns: { name: string; type: string; jsonPath: string }[];
      schema: { openAPIV3Schema: Schema };
    }[];
  };
}

const definitions = RESOURCE_KINDS.map((kind): [string, Definition] => [
  kind.kind,
  JSON.parse(JSON.stringify(customResourceDefinition(kind))) as Definition,
]);

test.each(definitions)("%s has a structural schema", (_, { spec }) => {
  for (const { schema } of spec.versions) expect(structuralProblems(schema.openAPIV3Schema)).toEqual([]);
});

test.each(definitions)("%s is a definition that an API server accepts", (kind, { metadata, spec }) => {
  const { names, versions } = spec;
  expect(metadata.name).toBe(`${names.plural}.${GROUP}`);
  expect(spec.group).toBe(GROUP);
  expect(["Namespaced", "Cluster"]).toContain(spec.scope);
  expect(spec.preserveUnknownFields).toBeUndefined();
  expect(names.kind).toBe(kind);
  expect(names.listKind).toBe(`${kind}List`);
  for (const name of [names.plural, names.singular, ...names.shortNames]) expect(name).toMatch(/^[a-z][a-z0-9]{0,62}$/);
  expect(versions.filter(({ storage }) => storage)).toHaveLength(1);
  for (const version of versions) {
    expect(version.name).toMatch(/^v\d+((alpha|beta)\d+)?$/);
    const { properties } = version.schema.openAPIV3Schema;
    // A status that is written as a subresource, and only where there is one.
    expect(version.subresources?.status !== undefined).toBe(properties?.status !== undefined);
    for (const column of version.additionalPrinterColumns) {
      expect(["integer", "number", "string", "boolean", "date"]).toContain(column.type);
      expect(column.jsonPath).toMatch(/^\.[\w.[\]?(@=="' )-]+$/);
    }
  }
  // etcd takes 1.5 MiB, and kubectl writes an applied object down a second time, in an annotation of at most 256 KiB.
  expect(JSON.stringify(spec).length).toBeLessThan(200 * 1024);
});

const string = (more: object = {}): Schema => ({ type: "string", maxLength: 10, ...more });
const object = (properties: Record<string, Schema>, more: object = {}): Schema => ({
  type: "object",
  properties,
  ...more,
});
const list = (items: Schema, more: object = {}): Schema => ({ type: "array", maxItems: 5, items, ...more });
const rule = (text: string, message = "so") => ({ "x-kubernetes-validations": [{ rule: text, message }] });

test.each<[string, Schema, RegExp]>([
  ["no type", object({ a: {} }), /^\.a: no type/],
  ["a type of its own", object({ a: { type: "date" } }), /unknown type date/],
  ["int-or-string with a type", object({ a: { "x-kubernetes-int-or-string": true, type: "string" } }), /has a type/],
  ["a reference", object({ a: { type: "object", $ref: "#/x" } }), /\$ref is forbidden/],
  ["unique items", object({ a: list(string(), { uniqueItems: true }) }), /uniqueItems is forbidden/],
  ["closed fields", object({ a: { type: "object", additionalProperties: false } }), /may not be false/],
  ["both kinds of fields", object({ a: object({}, { additionalProperties: string() }) }), /exclude each other/],
  ["fields of a string", object({ a: { type: "string", properties: {} } }), /no object/],
  ["an unknown required field", object({ a: string() }, { required: ["b"] }), /required b is no property/],
  ["a list map without keys", object({ a: list(object({}), { "x-kubernetes-list-type": "map" }) }), /has keys/],
  [
    "a key that may be missing",
    object({
      a: list(object({ k: string() }), { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"] }),
    }),
    /neither required nor defaulted/,
  ],
  [
    "a key that is no scalar",
    object({
      a: list(object({ k: object({}) }, { required: ["k"] }), {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
      }),
    }),
    /no scalar field/,
  ],
  [
    "a set of objects",
    object({ a: list(object({}), { "x-kubernetes-list-type": "set" }) }),
    /neither scalar nor atomic/,
  ],
  ["a list type of an object", object({ a: object({}, { "x-kubernetes-list-type": "atomic" }) }), /no array/],
  ["an array of nothing", object({ a: { type: "array" } }), /without items/],
  [
    "fields kept halfway",
    object({ a: { type: "object", "x-kubernetes-preserve-unknown-fields": false } }),
    /only be true/,
  ],
  ["a default of another type", object({ a: string({ default: 3 }) }), /3 is no string/],
  ["a default that is pruned", object({ a: object({ b: string() }, { default: { c: "x" } }) }), /c would be pruned/],
  [
    "a default that lacks a field",
    object({ a: object({ b: string() }, { required: ["b"], default: {} }) }),
    /b is missing/,
  ],
  [
    "a default that lacks a field which has one of its own",
    object({ a: object({ b: string({ default: "x" }) }, { required: ["b"], default: {} }) }),
    /b is missing/,
  ],
  [
    "a rule that cannot be told of the default",
    object({
      a: object(
        { b: string({ default: "x" }), c: string() },
        { default: {}, ...rule("(self.b == 'y') == has(self.c)") },
      ),
    }),
    /default: rule .*: b is not there/,
  ],
  [
    "a rule that cannot be told of a default further out",
    object({ a: object({ b: object({ c: string() }, rule("self.c != 'y'")) }, { default: { b: {} } }) }),
    /default: rule .*: c is not there/,
  ],
  ["a default in metadata", object({ metadata: object({ name: string({ default: "x" }) }) }), /default in metadata/],
  ["restricted metadata", object({ metadata: object({ labels: object({}) }) }), /may not be restricted/],
  ["a look-ahead", object({ a: string({ pattern: "^(?!x)" }) }), /RE2/],
  ["an enum value twice", object({ a: string({ enum: ["x", "x"] }) }), /twice/],
  ["an enum of another type", object({ a: string({ enum: [1] }) }), /1 is no string/],
  ["a junctor with a type", object({ a: string({ anyOf: [{ type: "string" }] }) }), /type in a junctor/],
  [
    "a junctor with a field of its own",
    object({ a: object({}, { oneOf: [{ properties: { b: {} } }] }) }),
    /no property/,
  ],
  [
    "a rule over an unbounded list",
    object({ a: { type: "array", items: string() } }, rule("size(self.a) > 0")),
    /maxItems/,
  ],
  ["a rule over an unbounded string", object({ a: { type: "string" } }, rule("self.a != ''")), /maxLength/],
  [
    "a rule over an unbounded map",
    object({ a: { type: "object", additionalProperties: string() } }, rule("size(self.a) > 0")),
    /maxProperties/,
  ],
  ["a rule without words", object({ a: string() }, rule("self.a != ''", "")), /message/],
  [
    "a comparison in a list without keys",
    object({ a: list(object({ b: string(rule("self == oldSelf")) })) }),
    /which old value is meant/,
  ],
])("a schema with %s is found out", (_, schema, problem) => {
  expect(structuralProblems(schema).join("\n")).toMatch(problem);
});

test("a schema with nothing wrong is not complained about", () => {
  const keyed = list(object({ k: string(), v: string(rule("self == oldSelf")) }, { required: ["k"] }), {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["k"],
  });
  const good = object({
    metadata: { type: "object" },
    spec: object(
      {
        size: { "x-kubernetes-int-or-string": true, anyOf: [{ pattern: "^x$" }] },
        any: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
        keyed,
        kind: string({ enum: ["A", "B"], default: "A" }),
      },
      { default: {}, ...rule("!has(self.kind) || self.kind != 'B' || has(self.keyed)") },
    ),
  });
  expect(structuralProblems(good)).toEqual([]);
});
