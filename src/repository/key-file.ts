import { scrypt } from "node:crypto";
import * as z from "zod";
import type { Backend } from "./backends/backend.ts";
import { type CryptoKey, decrypt } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";

const KEY_FILE_LIMIT = 64 * 1024;
/** restic calibrates scrypt to about half a second and 60 MB; a hostile file must not take the machine. */
const SCRYPT_MEMORY_LIMIT = 1024 * 1024 * 1024;

const base64Bytes = (length: number) =>
  z
    .string()
    .transform((text) => Buffer.from(text, "base64"))
    .refine((bytes) => bytes.length === length);

const keyFile = z.object({
  kdf: z.literal("scrypt"),
  N: z
    .int()
    .min(2)
    .max(2 ** 24),
  r: z.int().min(1).max(64),
  p: z.int().min(1).max(64),
  salt: z.string().max(1024),
  data: z.string().max(4096),
});

const masterKey = z.object({
  encrypt: base64Bytes(32),
  mac: z.object({ k: base64Bytes(16), r: base64Bytes(16) }),
});

async function passwordKey(password: string, file: z.infer<typeof keyFile>): Promise<CryptoKey> {
  const derived = await new Promise<Buffer>((resolve, reject) => {
    const options = { N: file.N, r: file.r, p: file.p, maxmem: SCRYPT_MEMORY_LIMIT };
    scrypt(password, Buffer.from(file.salt, "base64"), 64, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
  return { encryption: derived.subarray(0, 32), macK: derived.subarray(32, 48), macR: derived.subarray(48, 64) };
}

/**
 * The repository's master key, from the first key file that the password opens.
 *
 * @throws RepositoryError REPOSITORY_WRONG_PASSWORD where it opens none, REPOSITORY_NOT_FOUND where there is none.
 */
export async function openMasterKey(backend: Backend, password: string): Promise<CryptoKey> {
  const names = await backend.list("keys");
  if (names.length === 0) {
    throw new RepositoryError("REPOSITORY_NOT_FOUND", `there is no key in ${backend.location}`, {
      hint: "Check that this is the directory of a restic repository.",
    });
  }
  let unreadable: RepositoryError | undefined;
  for (const name of names.sort()) {
    const what = `keys/${name}`;
    const content = await backend.readAll({ type: "keys", name }, KEY_FILE_LIMIT);
    const parsed = keyFile.safeParse(parseJson(content));
    if (!parsed.success) {
      unreadable = new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} is not a key file of restic`);
      continue;
    }
    let plain: Buffer;
    try {
      plain = decrypt(await passwordKey(password, parsed.data), Buffer.from(parsed.data.data, "base64"), what);
    } catch {
      continue; // a key of somebody else's password
    }
    const key = masterKey.safeParse(parseJson(plain));
    if (!key.success) throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} holds no master key`);
    return { encryption: key.data.encrypt, macK: key.data.mac.k, macR: key.data.mac.r };
  }
  if (unreadable !== undefined && names.length === 1) throw unreadable;
  throw new RepositoryError(
    "REPOSITORY_WRONG_PASSWORD",
    `the password opens none of the ${names.length} keys in ${backend.location}`,
    {
      hint: "Correct the password in the credentials Secret; it is picked up without further ado.",
    },
  );
}

/** JSON, or undefined where it is none. */
export function parseJson(content: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(content.buffer, content.byteOffset, content.length).toString("utf8"));
  } catch {
    return undefined;
  }
}
