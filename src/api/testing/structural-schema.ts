// What the API server asks of a CustomResourceDefinition's schema, as its documentation says ("Specifying a structural schema",
// "Defaulting", "Merge strategy", "Validation rules"), so that a definition is not refused in a cluster for the first time.

export interface Schema {
  [keyword: string]: unknown;
  type?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema | boolean;
  required?: string[];
}

const TYPES = ["object", "array", "string", "integer", "number", "boolean"];
const FORBIDDEN =
  "definitions dependencies deprecated discriminator id patternProperties readOnly writeOnly xml $ref $schema additionalItems uniqueItems const if then else propertyNames contains examples".split(
    " ",
  );
const JUNCTORS = ["allOf", "anyOf", "oneOf"];
/** In a junctor these belong to the schema around it. */
const NOT_IN_JUNCTORS = ["description", "type", "default", "additionalProperties", "nullable", "title"];
const SCALARS = ["string", "integer", "number", "boolean"];

/** Whether the schema is under something that rules iterate over or compare, and between lists that keep no identity. */
interface Context {
  readonly ruled: boolean;
  readonly correlatable: boolean;
  readonly inMetadata: boolean;
}

/** Everything that an API server would refuse, each with the path where it is. */
export function structuralProblems(root: Schema): string[] {
  const problems: string[] = [];
  visit(root, "", { ruled: false, correlatable: true, inMetadata: false }, problems);
  return problems;
}

function visit(schema: Schema, path: string, context: Context, problems: string[]): void {
  const complain = (what: string) => problems.push(`${path === "" ? "." : path}: ${what}`);
  const has = (keyword: string) => schema[keyword] !== undefined;
  if (schema["x-kubernetes-int-or-string"] === true) {
    if (has("type")) complain("x-kubernetes-int-or-string has a type");
  } else if (!has("type")) {
    if (schema["x-kubernetes-preserve-unknown-fields"] !== true) complain("no type");
  } else if (!TYPES.includes(schema.type ?? "")) complain(`unknown type ${String(schema.type)}`);
  for (const keyword of FORBIDDEN) if (has(keyword)) complain(`${keyword} is forbidden`);
  for (const extension of ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"])
    if (has(extension) && schema[extension] !== true) complain(`${extension} may only be true`);
  if (has("x-kubernetes-embedded-resource") && schema.type !== "object") complain("an embedded resource is an object");
  checkObject(schema, complain);
  checkList(schema, complain);
  checkScalar(schema, complain);
  checkJunctors(schema, complain);
  const rules = (schema["x-kubernetes-validations"] ?? []) as { rule?: string; message?: string }[];
  for (const { rule = "", message } of rules) {
    if (rule.trim() === "") complain("a rule without an expression");
    if ((message ?? "").trim() === "" || message?.includes("\n")) complain(`rule ${rule}: a message of one line`);
    if (/\boldSelf\b/.test(rule) && !context.correlatable)
      complain(`rule ${rule}: nothing tells which old value is meant`);
  }
  const ruled = context.ruled || rules.length > 0;
  // What a rule costs is estimated from the bounds below it.
  if (ruled) checkBounds(schema, complain);
  if (has("default")) {
    if (context.inMetadata) complain("a default in metadata");
    for (const problem of mismatches(schema, schema.default)) complain(`default: ${problem}`);
    for (const problem of unguarded(schema, schema.default)) complain(`default: ${problem}`);
  }
  const isMap = schema["x-kubernetes-list-type"] === "map";
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    const isMetadata = path === "" && name === "metadata";
    // Every object has these two, and the API server sees to them.
    if (path === "" && ["apiVersion", "kind"].includes(name)) continue;
    if (isMetadata) checkMetadata(inner, complain);
    visit(inner, `${path}.${name}`, { ...context, ruled, inMetadata: context.inMetadata || isMetadata }, problems);
  }
  if (schema.items !== undefined)
    visit(schema.items, `${path}[]`, { ...context, ruled, correlatable: context.correlatable && isMap }, problems);
  if (typeof schema.additionalProperties === "object")
    visit(schema.additionalProperties, `${path}{}`, { ...context, ruled }, problems);
}

type Complain = (what: string) => void;

function checkObject(schema: Schema, complain: Complain): void {
  const { type, properties, additionalProperties, required } = schema;
  if ((properties !== undefined || additionalProperties !== undefined) && type !== "object")
    complain("fields of what is no object");
  if (properties !== undefined && additionalProperties !== undefined)
    complain("properties and additionalProperties exclude each other");
  if (additionalProperties === false) complain("additionalProperties may not be false");
  for (const name of required ?? []) if (properties?.[name] === undefined) complain(`required ${name} is no property`);
  const mapType = schema["x-kubernetes-map-type"];
  if (mapType !== undefined && (type !== "object" || !["granular", "atomic"].includes(String(mapType))))
    complain("x-kubernetes-map-type is granular or atomic, of an object");
}

function checkList(schema: Schema, complain: Complain): void {
  const { type, items } = schema;
  if (type === "array" && items === undefined) complain("an array without items");
  const listType = schema["x-kubernetes-list-type"];
  const keys = schema["x-kubernetes-list-map-keys"] as string[] | undefined;
  if (listType === undefined) {
    if (keys !== undefined) complain("list keys without x-kubernetes-list-type: map");
    return;
  }
  if (type !== "array") complain("x-kubernetes-list-type of what is no array");
  if (!["atomic", "set", "map"].includes(String(listType))) complain(`unknown list type ${String(listType)}`);
  if (listType === "set" && !SCALARS.includes(items?.type ?? "") && items?.["x-kubernetes-map-type"] !== "atomic")
    complain("a set of what is neither scalar nor atomic");
  if ((listType === "map") !== (keys ?? []).length > 0) complain("a list map, and only that, has keys");
  if (listType === "map" && items?.type !== "object") complain("a list map of what is no object");
  if (new Set(keys).size !== (keys ?? []).length) complain("a key twice");
  for (const key of keys ?? []) {
    const field = items?.properties?.[key];
    if (!SCALARS.includes(field?.type ?? "")) complain(`key ${key} is no scalar field`);
    if (items?.required?.includes(key) !== true && field?.default === undefined)
      complain(`key ${key} is neither required nor defaulted`);
  }
}

function checkScalar(schema: Schema, complain: Complain): void {
  const { pattern } = schema;
  if (pattern !== undefined) {
    if (schema.type !== "string") complain("a pattern of what is no string");
    // RE2 has no look-around and no back-references.
    if (/\(\?[=!<]|\\[1-9]/.test(String(pattern))) complain("a pattern that RE2 does not know");
  }
  const values = schema.enum as unknown[] | undefined;
  if (values !== undefined) {
    if (new Set(values).size !== values.length) complain("an enum value twice");
    for (const value of values) {
      for (const problem of mismatches({ ...schema, enum: undefined }, value)) complain(`enum: ${problem}`);
    }
  }
}

/** Inside allOf, anyOf, oneOf and not: only restrictions, of fields that are named outside. */
function checkJunctors(schema: Schema, complain: Complain): void {
  const inside = JUNCTORS.flatMap((junctor) => (schema[junctor] ?? []) as Schema[]);
  if (schema.not !== undefined) inside.push(schema.not as Schema);
  const compare = (inner: Schema, outer: Schema | undefined, path: string): void => {
    for (const keyword of NOT_IN_JUNCTORS) if (inner[keyword] !== undefined) complain(`${keyword} in a junctor${path}`);
    for (const [name, field] of Object.entries(inner.properties ?? {})) {
      if (outer?.properties?.[name] === undefined) complain(`a junctor names ${name}, which is no property${path}`);
      compare(field, outer?.properties?.[name], `${path}.${name}`);
    }
    if (inner.items !== undefined) compare(inner.items, outer?.items, `${path}[]`);
    for (const nested of JUNCTORS.flatMap((junctor) => (inner[junctor] ?? []) as Schema[]))
      compare(nested, outer, path);
  };
  for (const inner of inside) compare(inner, schema, "");
}

function checkBounds(schema: Schema, complain: Complain): void {
  const { type, maxItems, maxLength, maxProperties, format } = schema;
  if (type === "array" && maxItems === undefined) complain("a rule looks at an array without maxItems");
  if (schema.additionalProperties !== undefined && maxProperties === undefined)
    complain("a rule looks at a map without maxProperties");
  const isBounded = maxLength !== undefined || schema.enum !== undefined || format === "date-time";
  if (type === "string" && !isBounded) complain("a rule looks at a string without maxLength");
}

function checkMetadata(schema: Schema, complain: Complain): void {
  const names = Object.keys(schema.properties ?? {}).filter((name) => !["name", "generateName"].includes(name));
  for (const name of names) complain(`metadata.${name} may not be restricted`);
}

/** What of a value the schema does not allow, or would prune. */
function mismatches(schema: Schema, value: unknown): string[] {
  if (value === null) return schema.nullable === true ? [] : ["null where that is not allowed"];
  const is = Array.isArray(value) ? "array" : Number.isInteger(value) ? "integer" : typeof value;
  const fits = schema.type === is || (schema.type === "number" && is === "integer");
  if (!fits) return [`${JSON.stringify(value)} is no ${schema.type}`];
  const problems: string[] = [];
  const values = schema.enum as unknown[] | undefined;
  if (values !== undefined && !values.includes(value)) problems.push(`${JSON.stringify(value)} is none of the enum`);
  if (typeof value === "string" && schema.pattern !== undefined && !new RegExp(String(schema.pattern)).test(value))
    problems.push(`${JSON.stringify(value)} does not match the pattern`);
  if (typeof value === "number" && value < Number(schema.minimum ?? Number.NEGATIVE_INFINITY))
    problems.push(`${value} is below the minimum`);
  if (Array.isArray(value)) return [...problems, ...value.flatMap((item) => mismatches(schema.items ?? {}, item))];
  if (is !== "object" || schema["x-kubernetes-preserve-unknown-fields"] === true) return problems;
  const given = value as Record<string, unknown>;
  for (const name of schema.required ?? []) {
    if (given[name] === undefined) problems.push(`${name} is missing`);
  }
  for (const [name, field] of Object.entries(given)) {
    const inner = schema.properties?.[name] ?? (schema.additionalProperties as Schema | undefined);
    problems.push(...(inner === undefined ? [`${name} would be pruned`] : mismatches(inner, field)));
  }
  return problems;
}

/**
 * Rules are put to the test on a default as it stands, before the defaults of its own fields are filled in: a field that is not in it
 * may only be looked at where `has()` asked for it. The API server refuses the whole definition otherwise.
 */
function unguarded(schema: Schema, value: unknown): string[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  const given = value as Record<string, unknown>;
  const rules = (schema["x-kubernetes-validations"] ?? []) as { rule?: string }[];
  const problems = rules.flatMap(({ rule = "" }) => {
    const bare = rule.replace(/'[^']*'/g, "''");
    const asked = new Set([...bare.matchAll(/\bhas\(self\.(\w+)\)/g)].map(([, name]) => name));
    const seen = [...bare.matchAll(/\bself\.(\w+)/g)].map(([, name = ""]) => name);
    const missing = seen.filter((name) => schema.properties?.[name] !== undefined && given[name] === undefined);
    return [...new Set(missing)]
      .filter((name) => !asked.has(name))
      .map((name) => `rule ${rule}: ${name} is not there, and has() does not ask for it`);
  });
  const inner = Object.entries(given).flatMap(([name, field]) => unguarded(schema.properties?.[name] ?? {}, field));
  return [...problems, ...inner];
}
