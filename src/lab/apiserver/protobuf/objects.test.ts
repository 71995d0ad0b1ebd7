import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { decodeProtobufObject } from "./objects.ts";
import { ProtobufWriter } from "./writer.ts";

const MAGIC = Buffer.from("k8s\0");

function body(apiVersion: string, kind: string, object: ProtobufWriter): Buffer {
  const type = new ProtobufWriter().text(1, apiVersion).text(2, kind);
  return Buffer.concat([MAGIC, new ProtobufWriter().message(1, type).bytes(2, object.finish()).finish()]);
}

const entry = (key: string, value: Buffer): ProtobufWriter => new ProtobufWriter().text(1, key).bytes(2, value);

test("a Secret is read as its JSON form", () => {
  const meta = new ProtobufWriter()
    .text(1, "nightly-password")
    .bytes(2, Buffer.alloc(0))
    .text(3, "default")
    .message(11, entry("app", Buffer.from("orders")))
    .bytes(14, Buffer.from("a/b"))
    .bytes(14, Buffer.from("c/d"));
  const secret = new ProtobufWriter()
    .message(1, meta)
    .message(2, entry("password", Buffer.from([0xff, 0x00])))
    .message(2, entry("empty", Buffer.alloc(0)))
    .text(3, "Opaque")
    .bool(5, true);
  expect(decodeProtobufObject(body("v1", "Secret", secret))).toEqual({
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      name: "nightly-password",
      namespace: "default",
      labels: { app: "orders" },
      finalizers: ["a/b", "c/d"],
    },
    data: { password: "/wA=", empty: "" },
    type: "Opaque",
    immutable: true,
  });
});

test("what a review asks is read", () => {
  const attributes = new ProtobufWriter().text(1, "default").text(2, "create").text(5, "vmrestores");
  const review = new ProtobufWriter()
    .message(1, new ProtobufWriter())
    .message(2, new ProtobufWriter().message(1, attributes));
  expect(decodeProtobufObject(body("authorization.k8s.io/v1", "SelfSubjectAccessReview", review))).toMatchObject({
    spec: { resourceAttributes: { namespace: "default", verb: "create", resource: "vmrestores" } },
  });
});

test("a kind that is not known in this form is left to JSON", () => {
  expect(decodeProtobufObject(body("v1", "Pod", new ProtobufWriter()))).toBeUndefined();
  expect(decodeProtobufObject(body("", "constructor", new ProtobufWriter()))).toBeUndefined();
});

test("whatever the bytes are, they are an object or a refusal", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, isEnveloped) => {
      const inner = new ProtobufWriter().message(1, new ProtobufWriter().text(1, "v1").text(2, "Secret"));
      const content = isEnveloped ? inner.bytes(2, Buffer.from(bytes)).finish() : Buffer.from(bytes);
      try {
        decodeProtobufObject(Buffer.concat([MAGIC, content]));
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }),
  );
});
