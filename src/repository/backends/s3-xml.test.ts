import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { errorCodeIn, parsePage } from "./s3-xml.ts";

test("a page, with what XML escapes", () => {
  const xml = `<?xml version="1.0"?><ListBucketResult xmlns="x"><IsTruncated>true</IsTruncated>
    <Contents><Key>a&amp;b/&#x41;&#66;</Key></Contents><Contents><Key>c</Key></Contents>
    <NextContinuationToken>1/&quot;+=</NextContinuationToken></ListBucketResult>`;
  expect(parsePage(xml)).toEqual({ keys: ["a&b/AB", "c"], next: '1/"+=' });
  expect(parsePage("<ListBucketResult/>")).toBeUndefined();
  expect(parsePage("<ListBucketResult></ListBucketResult>")).toEqual({ keys: [], next: undefined });
});

test("what promises more and does not say where is no page", () => {
  expect(parsePage("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>")).toBeUndefined();
});

test("an error's code is a word, or nothing", () => {
  expect(errorCodeIn("<Error><Code>SlowDown</Code><Message>m</Message></Error>")).toBe("SlowDown");
  expect(errorCodeIn("<Error><Code>two words\n</Code></Error>")).toBeUndefined();
  expect(errorCodeIn("<html>503</html>")).toBeUndefined();
});

test("any text has a verdict", () => {
  const xmlLike = fc.array(
    fc.constantFrom("<ListBucketResult>", "<Key>", "</Key>", "&amp;", "&#x110000;", "&#9999999;", "a", "<Error><Code>"),
  );
  fc.assert(
    fc.property(xmlLike, (parts) => {
      parsePage(parts.join(""));
      errorCodeIn(parts.join(""));
    }),
  );
});
