import { createHash, randomBytes, scryptSync } from "node:crypto";
import type { Backend } from "../backends/backend.ts";
import { type CryptoKey, encrypt } from "../crypto.ts";

/** Writes a key file like restic's, with scrypt parameters that cost nothing. */
export async function writeCheapKey(backend: Backend, master: CryptoKey, password: string): Promise<void> {
  const [N, r, p] = [2, 1, 1];
  const salt = randomBytes(64);
  const derived = scryptSync(password, salt, 64, { N, r, p });
  const plain = Buffer.from(JSON.stringify(masterKeyJson(master)));
  const key = {
    encryption: derived.subarray(0, 32),
    macK: derived.subarray(32, 48),
    macR: derived.subarray(48, 64),
  };
  const data = encrypt(key, plain).toString("base64");
  const file = { created: "2026-01-02T03:04:05Z", username: "test", hostname: "test", kdf: "scrypt", N, r, p };
  const content = Buffer.from(JSON.stringify({ ...file, salt: salt.toString("base64"), data }));
  const name = createHash("sha256").update(content).digest("hex");
  await backend.save({ type: "keys", name }, content);
}

function masterKeyJson(master: CryptoKey): unknown {
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
  return { mac: { k: base64(master.macK), r: base64(master.macR) }, encrypt: base64(master.encryption) };
}
