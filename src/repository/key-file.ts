import { createHash, scrypt } from "node:crypto";
import * as z from "zod";
import { errorCode } from "../base/errors.ts";
import type { Backend } from "./backends/backend.ts";
import { type CryptoKey, decrypt } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { parseJson } from "./json.ts";

const KEY_FILE_LIMIT = 64 * 1024;
/** More keys than that are not tried; restic itself stops at 20. */
const KEY_LIMIT = 64;
/**
 * restic calibrates scrypt to half a second and 60 MB on the machine that made the key (N · r · p of about 2 million). A
 * hostile file may take a few seconds and 256 MiB, not more.
 */
const SCRYPT_MEMORY_LIMIT = 256 * 1024 * 1024;
const SCRYPT_WORK_LIMIT = 2 ** 25;

const base64Bytes = (length: number) =>
  z
    .string()
    .transform((text) => Buffer.from(text, "base64"))
    .refine((bytes) => bytes.length === length);

const keyFile = z
  .object({
    kdf: z.literal("scrypt"),
    N: z
      .int()
      .min(2)
      .max(2 ** 24)
      .refine((n) => (n & (n - 1)) === 0),
    r: z.int().min(1).max(64),
    p: z.int().min(1).max(64),
    salt: z.base64().max(1024),
    data: z.base64().max(4096),
  })
  .refine(({ N, r, p }) => N * r * p <= SCRYPT_WORK_LIMIT && 128 * r * (N + p + 2) <= SCRYPT_MEMORY_LIMIT);

type KeyFile = z.infer<typeof keyFile>;

const masterKey = z.object({
  encrypt: base64Bytes(32),
  mac: z.object({ k: base64Bytes(16), r: base64Bytes(16) }),
});

async function passwordKey(password: string, { N, r, p, salt }: KeyFile): Promise<CryptoKey> {
  const derived = await new Promise<Buffer>((resolve, reject) => {
    const options = { N, r, p, maxmem: SCRYPT_MEMORY_LIMIT + 1024 * 1024 };
    scrypt(password, Buffer.from(salt, "base64"), 64, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
  return { encryption: derived.subarray(0, 32), macK: derived.subarray(32, 48), macR: derived.subarray(48, 64) };
}

/** A key file's content, checked; undefined where it is damaged or asks for more than a key of restic would. */
export function parseKeyFile(name: string, content: Buffer): KeyFile | undefined {
  if (createHash("sha256").update(content).digest("hex") !== name) return undefined;
  return keyFile.safeParse(parseJson(content)).data;
}

/**
 * The repository's master key, from the first key file that the password opens.
 *
 * @throws RepositoryError REPOSITORY_WRONG_PASSWORD where it opens none, REPOSITORY_OBJECT_DAMAGED where none could be tried,
 *   REPOSITORY_NOT_FOUND where there is none.
 * @param onDeriving told once, when all that is needed of the backend was read and half a second of deriving begins
 */
export async function openMasterKey(
  backend: Backend,
  password: string,
  onDeriving: () => void = () => undefined,
): Promise<CryptoKey> {
  const names = (await backend.list("keys")).sort().slice(0, KEY_LIMIT);
  const damaged: string[] = [];
  const files: { readonly name: string; readonly file: KeyFile }[] = [];
  for (const name of names) {
    const read = async (): Promise<KeyFile | undefined> => {
      const content = await backend.readAll({ type: "keys", name }, KEY_FILE_LIMIT);
      return parseKeyFile(name, content);
    };
    try {
      // Once more where it was damaged: it may have been altered on its way.
      const file = (await read()) ?? (await read());
      if (file === undefined) damaged.push(`keys/${name}`);
      else files.push({ name, file });
    } catch (error) {
      // Removed since the listing, by a change of the password.
      if (errorCode(error) !== "REPOSITORY_OBJECT_MISSING") throw error;
    }
  }
  if (files.length > 0) onDeriving();
  // Key files are not sealed: whoever may write to the repository can add some that take long to try.
  for (const { name, file } of files.sort((a, b) => work(a.file) - work(b.file))) {
    const key = await tryKey(name, file, password);
    if (key !== undefined) return key;
  }
  const tried = files.length;
  const [first] = damaged;
  if (tried > 0) {
    const others = first === undefined ? "" : `; ${damaged.join(", ")} could not be tried, being damaged`;
    throw new RepositoryError(
      "REPOSITORY_WRONG_PASSWORD",
      `the password opens none of the ${tried} keys in ${backend.location}${others}`,
      { hint: "Correct the password in the credentials Secret; it is picked up without further ado." },
    );
  }
  if (first !== undefined) {
    throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${first} is not a genuine key file of restic`, {
      hint: "Restore the key file from another copy of the repository.",
    });
  }
  throw new RepositoryError("REPOSITORY_NOT_FOUND", `there is no key in ${backend.location}`, {
    hint: "Check that this is the directory of a restic repository.",
  });
}

function work({ N, r, p }: KeyFile): number {
  return N * r * p;
}

/** The master key in a key file; undefined where it is one of another password. */
async function tryKey(name: string, file: KeyFile, password: string): Promise<CryptoKey | undefined> {
  const what = `keys/${name}`;
  const derived = await passwordKey(password, file);
  let plain: Buffer;
  try {
    plain = decrypt(derived, Buffer.from(file.data, "base64"), what);
  } catch {
    return undefined;
  }
  const key = masterKey.safeParse(parseJson(plain));
  if (!key.success) throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${what} holds no master key`);
  return { encryption: key.data.encrypt, macK: key.data.mac.k, macR: key.data.mac.r };
}
