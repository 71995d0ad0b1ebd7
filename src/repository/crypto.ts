import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import sodium from "sodium-native";
import { RepositoryError } from "./errors.ts";

/** A repository's master key, or the key that a password gives (restic doc/design.rst, "Keys, Encryption and MAC"). */
export interface CryptoKey {
  /** AES-256 key, 32 bytes. */
  readonly encryption: Uint8Array;
  /** Poly1305-AES: AES-128 key k, 16 bytes. */
  readonly macK: Uint8Array;
  /** Poly1305-AES: r, 16 bytes. */
  readonly macR: Uint8Array;
}

const NONCE_BYTES = 16;
const MAC_BYTES = 16;
const PIECE = 64 * 1024;
/** What encryption adds to a plaintext: nonce before it, MAC behind it. */
export const CRYPTO_OVERHEAD = NONCE_BYTES + MAC_BYTES;

/** The one-time Poly1305 key of a nonce: r || AES-128_k(nonce). libsodium clamps r itself. */
function oneTimeKey(key: CryptoKey, nonce: Uint8Array): Buffer {
  const aes = createCipheriv("aes-128-ecb", key.macK, null).setAutoPadding(false);
  return Buffer.concat([key.macR, aes.update(nonce)]);
}

/**
 * Decrypts `nonce || ciphertext || MAC` after checking its MAC.
 *
 * @param what names the object in the error.
 * @throws RepositoryError REPOSITORY_OBJECT_DAMAGED where the MAC does not fit, or it is too short to be one.
 */
export function decrypt(key: CryptoKey, sealed: Uint8Array, what: string): Buffer {
  const { nonce, ciphertext } = opened(key, sealed, what);
  return createDecipheriv("aes-256-ctr", key.encryption, nonce).update(ciphertext);
}

/** As {@link decrypt}, in pieces. The MAC is checked before the first one. */
export function* decryptInPieces(key: CryptoKey, sealed: Uint8Array, what: string): Generator<Buffer> {
  const { nonce, ciphertext } = opened(key, sealed, what);
  const decipher = createDecipheriv("aes-256-ctr", key.encryption, nonce);
  for (let at = 0; at < ciphertext.length; at += PIECE) yield decipher.update(ciphertext.subarray(at, at + PIECE));
}

/** What is sealed, once its MAC was checked. */
function opened(key: CryptoKey, sealed: Uint8Array, what: string): { nonce: Buffer; ciphertext: Buffer } {
  if (sealed.length < CRYPTO_OVERHEAD) {
    throw new RepositoryError(
      "REPOSITORY_OBJECT_DAMAGED",
      `${what} is ${sealed.length} bytes long, too short to be genuine`,
    );
  }
  const view = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.length);
  const nonce = view.subarray(0, NONCE_BYTES);
  const ciphertext = view.subarray(NONCE_BYTES, view.length - MAC_BYTES);
  const mac = view.subarray(view.length - MAC_BYTES);
  if (!sodium.crypto_onetimeauth_verify(mac, ciphertext, oneTimeKey(key, nonce))) {
    throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} was altered: its MAC does not fit`, {
      hint: "Run `restic check --read-data`, and restore from another copy of the repository.",
    });
  }
  return { nonce, ciphertext };
}

/** `nonce || ciphertext || MAC` under a fresh random nonce. */
export function encrypt(key: CryptoKey, plaintext: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const ciphertext = createCipheriv("aes-256-ctr", key.encryption, nonce).update(plaintext);
  const mac = Buffer.alloc(MAC_BYTES);
  sodium.crypto_onetimeauth(mac, ciphertext, oneTimeKey(key, nonce));
  return Buffer.concat([nonce, ciphertext, mac]);
}
