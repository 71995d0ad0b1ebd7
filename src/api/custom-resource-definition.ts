import * as z from "zod";
import { GROUP, VERSION } from "./group.ts";

/** A kind of this group, as far as its CustomResourceDefinition goes. */
export interface ResourceKind {
  readonly kind: string;
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly description: string;
  readonly spec: z.ZodType;
  readonly status?: z.ZodType;
  readonly columns: readonly Column[];
  /** CEL rules over the whole object. */
  readonly rules?: readonly { readonly rule: string; readonly message: string }[];
}

export interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly jsonPath: string;
  readonly description?: string;
  /** 0: always shown; greater: with `-o wide` only. */
  readonly priority?: number;
}

type Schema = Record<string, unknown>;

/** apiextensions.k8s.io/v1, with a structural schema. */
export function customResourceDefinition(resource: ResourceKind): object {
  const schema = {
    type: "object",
    description: resource.description,
    required: ["spec"],
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { type: "object" },
      spec: structuralSchema(resource.spec),
      ...(resource.status === undefined ? {} : { status: structuralSchema(resource.status) }),
    },
    ...(resource.rules === undefined ? {} : { "x-kubernetes-validations": resource.rules }),
  };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${resource.plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: "Namespaced",
      names: {
        kind: resource.kind,
        listKind: `${resource.kind}List`,
        plural: resource.plural,
        singular: resource.kind.toLowerCase(),
        shortNames: resource.shortNames,
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          ...(resource.status === undefined ? {} : { subresources: { status: {} } }),
          additionalPrinterColumns: resource.columns,
          schema: { openAPIV3Schema: schema },
        },
      ],
    },
  };
}

function structuralSchema(type: z.ZodType): Schema {
  return z.toJSONSchema(type, {
    target: "openapi-3.0",
    io: "input",
    override: ({ jsonSchema }) => toStructural(jsonSchema as Schema),
  }) as Schema;
}

/** Mends what zod writes and a structural schema does not allow, or what an API server would read otherwise. */
function toStructural(schema: Schema): void {
  if (schema.type === "integer") {
    schema.format = "int64";
    if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
    if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  }
  // zod's pattern for times uses more than RE2 needs to see, and `date-time` says the same.
  if (schema.format === "date-time") delete schema.pattern;
  // An API server prunes unknown fields by itself, and refuses to be told so.
  if (schema.additionalProperties === false) delete schema.additionalProperties;
  if (schema["x-kubernetes-preserve-unknown-fields"] === true) delete schema.additionalProperties;
  delete schema.propertyNames;
}
