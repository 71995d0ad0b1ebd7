import { randomBytes } from "node:crypto";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { CRYPTO_OVERHEAD, type CryptoKey, decrypt, encrypt } from "./crypto.ts";

const key = (): CryptoKey => ({ encryption: randomBytes(32), macK: randomBytes(16), macR: randomBytes(16) });

/** Test vectors of the Poly1305-AES paper (Bernstein 2005, appendix B): message, r, k, nonce, MAC. */
const VECTORS = [
  [
    "f3f6",
    "851fc40c3467ac0be05cc20404f3f700",
    "ec074c835580741701425b623235add6",
    "fb447350c4e868c52ac3275cf9d4327e",
    "f4c633c3044fc145f84f335cb81953de",
  ],
  [
    "",
    "a0f3080000f46400d0c7e9076c834403",
    "75deaa25c09f208e1dc4ce6b5cad3fbf",
    "61ee09218d29b0aaed7e154a2c5509cc",
    "dd3fab2251f11ac759f0887129cc2ee7",
  ],
  [
    "663cea190ffb83d89593f3f476b6bc24d7e679107ea26adb8caf6652d0656136",
    "48443d0bb0d21109c89a100b5ce2c208",
    "6acb5f61a7176dd320c5c1eb2edcdc74",
    "ae212a55399729595dea458bc621ff0e",
    "0ee1c16bb73f0f4fd19881753c01cdbe",
  ],
] as const;

test.each(VECTORS)("the MAC is Poly1305-AES: vector of message '%s'", (message, r, k, nonce, mac) => {
  const [ciphertext, macR, macK] = [message, r, k].map((text) => Buffer.from(text, "hex")) as [Buffer, Buffer, Buffer];
  const sealed = Buffer.concat([Buffer.from(nonce, "hex"), ciphertext, Buffer.from(mac, "hex")]);
  const vectorKey = { encryption: Buffer.alloc(32), macK, macR };
  expect(decrypt(vectorKey, sealed, "it")).toHaveLength(ciphertext.length);
  sealed[sealed.length - 1] = (sealed.at(-1) ?? 0) ^ 1;
  expect(() => decrypt(vectorKey, sealed, "it")).toThrow(
    expect.objectContaining({ code: "REPOSITORY_OBJECT_DAMAGED" }),
  );
});

test("what was sealed opens with its key only, and only unaltered", () => {
  const own = key();
  const bytes = fc.uint8Array({ maxLength: 300 });
  fc.assert(
    fc.property(bytes, fc.nat(), fc.integer({ min: 0, max: 7 }), (plain, position, bit) => {
      const sealed = encrypt(own, plain);
      expect(sealed).toHaveLength(plain.length + CRYPTO_OVERHEAD);
      expect(decrypt(own, sealed, "it")).toEqual(Buffer.from(plain));
      expect(() => decrypt(key(), sealed, "it")).toThrow("it was altered");
      const at = position % sealed.length;
      sealed[at] = (sealed[at] ?? 0) ^ (1 << bit);
      expect(() => decrypt(own, sealed, "it")).toThrow("it was altered");
      expect(() => decrypt(own, sealed.subarray(0, position % CRYPTO_OVERHEAD), "it")).toThrow("too short");
    }),
  );
});
