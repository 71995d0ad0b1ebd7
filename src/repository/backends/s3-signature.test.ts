import { expect, test } from "@jest/globals";
import { signedHeaders } from "./s3-signature.ts";

/** The examples of AWS's documentation ("Signature Calculations for the Authorization Header", Amazon S3 API reference). */
const credentials = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};
const time = Date.UTC(2013, 4, 24);
const bucket = "https://examplebucket.s3.amazonaws.com";

test.each([
  [
    "a ranged read",
    { method: "GET", url: `${bucket}/test.txt`, headers: { range: "bytes=0-9" } },
    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
  ],
  [
    "a write",
    {
      method: "PUT",
      url: `${bucket}/test%24file.text`,
      headers: { date: "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY" },
      content: Buffer.from("Welcome to Amazon S3."),
    },
    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
  ],
  [
    "a parameter without a value",
    { method: "GET", url: `${bucket}/?lifecycle`, headers: {} },
    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
  ],
  [
    "a listing",
    { method: "GET", url: `${bucket}/?max-keys=2&prefix=J`, headers: {} },
    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
  ],
])("signs %s as AWS does", (_what, { url, ...parts }, signature) => {
  const headers = signedHeaders({ ...parts, url: new URL(url) }, credentials, "us-east-1", time);
  expect(headers.authorization).toMatch(new RegExp(`Signature=${signature}$`));
});

test("a lent key's token is sent, and signed", () => {
  const parts = { method: "GET", url: new URL(`${bucket}/x`), headers: {} };
  const headers = signedHeaders(parts, { ...credentials, sessionToken: "token" }, "us-east-1", time);
  expect(headers["x-amz-security-token"]).toBe("token");
  expect(headers.authorization).toContain("x-amz-security-token");
});
