import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse } from "yaml";
import { backupRepositorySpec } from "./backup-repository.ts";
import { customResourceDefinition } from "./custom-resource-definition.ts";
import { RESOURCE_KINDS } from "./resource-kinds.ts";
import { vmRestoreSpec } from "./vm-restore.ts";

type Schema = Record<string, unknown> & {
  type?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema;
};

function schemaOf(kind: string): Schema {
  const resource = RESOURCE_KINDS.find((candidate) => candidate.kind === kind);
  if (resource === undefined) throw new Error(`no kind ${kind}`);
  // biome-ignore lint/suspicious/noExplicitAny: a document looked at field by field
  return (customResourceDefinition(resource) as any).spec.versions[0].schema.openAPIV3Schema;
}

function* everySchema(schema: Schema, path = ""): Generator<[string, Schema]> {
  yield [path, schema];
  for (const [name, inner] of Object.entries(schema.properties ?? {})) yield* everySchema(inner, `${path}.${name}`);
  if (schema.items !== undefined) yield* everySchema(schema.items, `${path}[]`);
  if (schema.additionalProperties !== undefined) yield* everySchema(schema.additionalProperties, `${path}{}`);
}

const KEYWORDS = new Set(
  "type format description default enum properties required items additionalProperties nullable pattern minLength maxLength minItems maxItems minimum maximum exclusiveMinimum maxProperties".split(
    " ",
  ),
);

test.each(RESOURCE_KINDS.map(({ kind }) => kind))("%s has a structural schema that an API server accepts", (kind) => {
  for (const [path, schema] of everySchema(schemaOf(kind))) {
    const at = `${kind}${path}`;
    expect([at, schema.type]).toEqual([at, expect.stringMatching(/^(object|array|string|integer|number|boolean)$/)]);
    for (const keyword of Object.keys(schema)) {
      if (!keyword.startsWith("x-kubernetes-")) expect([at, KEYWORDS.has(keyword) ? "" : keyword]).toEqual([at, ""]);
    }
    if (schema.type === "array") expect([at, schema.maxItems]).toEqual([at, expect.any(Number)]);
    // RE2 has no look-around and no back-references.
    if (schema.pattern !== undefined) expect(schema.pattern).not.toMatch(/\(\?[=!<]|\\[1-9]/);
    if (schema.type === "string" && schema.enum === undefined && schema.pattern !== undefined) {
      expect([at, schema.maxLength]).toEqual([at, expect.any(Number)]);
    }
    for (const key of (schema["x-kubernetes-list-map-keys"] ?? []) as string[]) {
      expect(schema.items?.required).toContain(key);
    }
  }
});

test.each(RESOURCE_KINDS)("$kind has printer columns that point at fields", (kind) => {
  const paths = new Set([...everySchema(schemaOf(kind.kind))].map(([path]) => path));
  for (const { jsonPath } of kind.columns) {
    const path = jsonPath.replace(/\[\?.*?\]/, "[]");
    if (!path.startsWith(".metadata.")) expect(paths).toContain(path);
  }
});

test("crds/ holds what the schemas say", () => {
  for (const kind of RESOURCE_KINDS) {
    const file = join(import.meta.dirname, `../../crds/vmrestore.io_${kind.plural}.yaml`);
    expect(parse(readFileSync(file, "utf8"))).toEqual(JSON.parse(JSON.stringify(customResourceDefinition(kind))));
  }
});

const minimal = {
  source: { repository: { name: "nightly" }, snapshot: { latest: {} } },
  virtualMachine: { name: "orders-db" },
};

/** What an API server does with a schema's defaults. */
function withDefaults(schema: Schema, value: unknown): unknown {
  if (schema.type === "array") return (value as unknown[]).map((item) => withDefaults(schema.items ?? {}, item));
  if (schema.type !== "object" || schema.properties === undefined) return value;
  const result: Record<string, unknown> = { ...(value as object) };
  for (const [name, inner] of Object.entries(schema.properties)) {
    if (result[name] === undefined && inner.default !== undefined) result[name] = structuredClone(inner.default);
    if (result[name] !== undefined) result[name] = withDefaults(inner, result[name]);
  }
  return result;
}

test("an API server fills in the same defaults as the operator does", () => {
  const spec = schemaOf("VMRestore").properties?.spec ?? {};
  expect(withDefaults(spec, minimal)).toEqual(vmRestoreSpec.parse(minimal));
});

test.each([
  ["no snapshot chosen", { source: { ...minimal.source, snapshot: {} } }],
  ["two ways of choosing", { source: { ...minimal.source, snapshot: { id: "4bba301e", latest: {} } } }],
  ["a name that is none", { virtualMachine: { name: "Orders_DB" } }],
  ["a template without Inline", { virtualMachine: { name: "a", manifest: { template: {} } } }],
  ["Inline without a template", { virtualMachine: { name: "a", manifest: { from: "Inline" } } }],
  ["At without a time", { relocation: { cutover: { when: "At" } } }],
  ["a time without At", { relocation: { cutover: { at: "2026-11-21T23:00:00Z" } } }],
  ["an unknown strategy", { relocation: { strategy: "Teleport" } }],
  ["a time to begin without At", { relocation: { beginAt: "2026-11-21T23:00:00Z" } }],
  ["At without a time to begin", { relocation: { begin: "At" } }],
  ["a limit of nothing", { relocation: { bandwidthLimit: "0" } }],
  ["a trial that goes back at once", { relocation: { trial: { onExpiry: "RollBack" } } }],
  ["a time to live that is none", { ttlAfterCompletion: "a day" }],
  ["a size that is none", { mediaAgent: { cache: { size: "20GB" } } }],
  [
    "a map of networks that is not asked for",
    { virtualMachine: { name: "a", networkMap: [{ from: "pod", to: "b" }] } },
  ],
  ["networks to map, and no map", { virtualMachine: { name: "a", networks: "Map" } }],
  [
    "a network that is none",
    { virtualMachine: { name: "a", networks: "Map", networkMap: [{ from: "pod", to: "../b" }] } },
  ],
  [
    "one repository's id for another's disk",
    {
      source: {
        repository: { name: "a" },
        snapshot: { id: "4bba301e" },
        disks: [{ name: "root", path: "/root.img", repository: { name: "b" } }],
      },
    },
  ],
  ["a relative disk path", { source: { ...minimal.source, disks: [{ name: "root", path: "disks/root.img" }] } }],
])("a VMRestore with %s is refused", (_, change) => {
  expect(vmRestoreSpec.safeParse(minimal).success).toBe(true);
  expect(vmRestoreSpec.safeParse({ ...minimal, ...change }).success).toBe(false);
});

test.each(["..", "../other", "a/../b", "/absolute", "a//b", ".hidden", "a/"])(
  "a repository path %p is refused",
  (path) => {
    const spec = { local: { claimName: "backups", path }, credentialsSecretRef: { name: "key" } };
    expect(backupRepositorySpec.safeParse(spec).success).toBe(false);
    expect(backupRepositorySpec.safeParse({ ...spec, local: { claimName: "backups", path: "a/b" } }).success).toBe(
      true,
    );
  },
);

test.each([
  {},
  { local: { claimName: "backups" }, rest: { url: "http://backup/" } },
  { rest: { url: "https://user:password@backup/" } },
  { rest: { url: "https://backup/?password=x" } },
  { rest: { url: "ftp://backup/" } },
  { s3: { bucket: "Backups" } },
  { s3: { bucket: "backups", prefix: "../other" } },
  { s3: { bucket: "backups", endpoint: "https://key:secret@minio" } },
  { s3: { bucket: "backups", endpoint: "https://minio/path" } },
  { s3: { bucket: "backups", caBundle: "no certificate" } },
])("a repository's place %j is refused", (place) => {
  const credentialsSecretRef = { name: "password" };
  expect(backupRepositorySpec.safeParse({ ...place, credentialsSecretRef }).success).toBe(false);
  for (const good of [
    { rest: { url: "https://backup:8000/me/" } },
    { s3: { bucket: "backups", endpoint: "http://minio:9000" } },
  ]) {
    expect(backupRepositorySpec.safeParse({ ...good, credentialsSecretRef }).success).toBe(true);
  }
});

const EXAMPLES = [
  "vmrestore.yaml",
  "vmrestore-from-volsync.yaml",
  "vmrestore-careful.yaml",
  "vmrestore-replace.yaml",
  "backuprepository.yaml",
  "backuprepository-s3.yaml",
  "backuprepository-rest.yaml",
];

test.each(EXAMPLES)("examples/%s is valid", (file) => {
  const { kind, spec } = parse(readFileSync(join(import.meta.dirname, "../../examples", file), "utf8"));
  const resource = RESOURCE_KINDS.find((candidate) => candidate.kind === kind);
  expect(resource?.spec.safeParse(spec).error).toBeUndefined();
});
