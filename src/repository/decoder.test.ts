import { createHash, randomBytes } from "node:crypto";
import { Worker } from "node:worker_threads";
import { zstdCompressSync } from "node:zlib";
import { afterEach, expect, test } from "@jest/globals";
import { type CryptoKey, encrypt } from "./crypto.ts";
import { Decoder } from "./decoder.ts";
import { noise } from "./testing/restic.ts";

const key: CryptoKey = { encryption: randomBytes(32), macK: randomBytes(16), macR: randomBytes(16) };
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const place = (uncompressedLength: number) => ({ pack: "p", offset: 0, length: 0, uncompressedLength });

let decoder: Decoder;
function unlocked(started: Decoder): Decoder {
  started.useKey(key);
  return started;
}
afterEach(() => decoder.close());

test.each([0, 1, 100, 5000, 1_000_000])("gives back %i bytes, stored as they are or compressed", async (length) => {
  decoder = unlocked(new Decoder(1));
  const plain = Buffer.concat([noise(length - (length % 4), 1), Buffer.alloc(length % 4, 1)]);
  expect((await decoder.blob(sha256(plain), place(0), encrypt(key, plain))).equals(plain)).toBe(true);
  if (length === 0) return;
  const packed = encrypt(key, zstdCompressSync(plain));
  expect((await decoder.blob(sha256(plain), place(length), packed)).equals(plain)).toBe(true);
});

test("refuses other content, another length, a bomb, and anything altered", async () => {
  decoder = unlocked(new Decoder(2));
  const plain = noise(10_000, 2);
  const packed = zstdCompressSync(plain);
  const altered = encrypt(key, plain);
  altered[5000] = (altered[5000] ?? 0) ^ 4;
  const refused = [
    decoder.blob(sha256(noise(10_000, 3)), place(0), encrypt(key, plain)),
    decoder.blob(sha256(plain), place(9_999), encrypt(key, packed)),
    decoder.blob(sha256(plain), place(10_001), encrypt(key, packed)),
    decoder.blob(sha256(plain), place(1000), encrypt(key, zstdCompressSync(Buffer.alloc(100_000_000)))),
    decoder.blob(sha256(plain), place(10_000), encrypt(key, packed.subarray(0, packed.length - 10))),
    decoder.blob(sha256(plain), place(10_000), encrypt(key, plain)),
    decoder.blob(sha256(plain), place(0), altered),
    decoder.blob(sha256(plain), place(0), Buffer.alloc(31)),
    decoder.tree(sha256(plain), place(0), encrypt(key, noise(10_000, 3))),
  ];
  for (const each of await Promise.allSettled(refused)) {
    expect(each).toMatchObject({ status: "rejected", reason: { code: "REPOSITORY_BLOB_DAMAGED" } });
  }
  await expect(decoder.tree(sha256(plain), place(0), encrypt(key, plain))).rejects.toMatchObject({
    code: "REPOSITORY_OBJECT_DAMAGED",
  });
});

test("leaves the caller's other buffers alone", async () => {
  decoder = unlocked(new Decoder(1));
  const small = Buffer.from("small enough for the pool that Node's buffers share");
  const sealed = Buffer.allocUnsafe(32 + small.length);
  encrypt(key, small).copy(sealed);
  const neighbour = Buffer.from("in the same pool");
  expect((await decoder.blob(sha256(small), place(0), sealed)).equals(small)).toBe(true);
  expect(neighbour.toString()).toBe("in the same pool");
});

test("the id of zeros", async () => {
  decoder = unlocked(new Decoder(1));
  for (const length of [0, 1, 65_535, 65_536, 65_537, 3_000_000]) {
    expect(await decoder.zeroId(length)).toBe(sha256(Buffer.alloc(length)));
  }
});

test("a thread that dies fails what it had, and another one takes over", async () => {
  const workers: Worker[] = [];
  const decoding = new Decoder(1, () => {
    const worker = new Worker(new URL("./decode-worker.ts", import.meta.url));
    workers.push(worker);
    return worker;
  });
  decoder = unlocked(decoding);
  const plain = noise(1_000_000, 4);
  const read = (): Promise<Buffer> => decoder.blob(sha256(plain), place(0), encrypt(key, plain));
  await read();
  // Work that does not end by itself, with more behind it.
  const lost = [decoder.zeroId(2 ** 50), read(), read()];
  await workers[0]?.terminate();
  for (const each of await Promise.allSettled(lost)) {
    expect(each).toMatchObject({ status: "rejected", reason: { code: "REPOSITORY_UNREACHABLE" } });
  }
  expect((await read()).equals(plain)).toBe(true);
  expect(workers).toHaveLength(2);
});

test("threads that were started before there is a key decode with it", async () => {
  const workers: Worker[] = [];
  decoder = new Decoder(2, () => {
    const worker = new Worker(new URL("./decode-worker.ts", import.meta.url));
    workers.push(worker);
    return worker;
  });
  decoder.start();
  decoder.start();
  expect(workers).toHaveLength(2);
  decoder.useKey(key);
  const plain = noise(10_000, 5);
  const read = (): Promise<Buffer> => decoder.blob(sha256(plain), place(0), encrypt(key, plain));
  for (const each of await Promise.all([read(), read(), read()])) expect(each.equals(plain)).toBe(true);
  expect(workers).toHaveLength(2);
});

test("after closing, everything is refused, and no thread comes back", async () => {
  decoder = unlocked(new Decoder(2));
  await decoder.close();
  await expect(decoder.zeroId(5)).rejects.toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
});
