import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { silentLogger } from "../base/logging.ts";
import { copyState } from "./copy-state.ts";

let directory: string;
let from: string;
let into: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "state-"));
  from = join(directory, "old");
  into = join(directory, "new");
  await mkdir(from);
  await mkdir(into);
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function put(path: string, content: string | Buffer): Promise<void> {
  await mkdir(dirname(join(from, path)), { recursive: true });
  await writeFile(join(from, path), content);
}

const copy = (): Promise<void> => copyState({ from, into, log: silentLogger });

const contents = async (): Promise<Record<string, string>> => {
  const entries = await readdir(into, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
  const pairs = files.map(async (path) => [path.slice(into.length + 1), await readFile(path, "utf8")] as const);
  return Object.fromEntries(await Promise.all(pairs));
};

const TPM = "swtpm/5d307ca9-b3ef-428c-8861-06e72d69f223/tpm2/tpm2-00.permall";

test("what KubeVirt keeps of TPM and firmware is copied, and nothing else that lies there", async () => {
  await put("nvram/orders-db_VARS.fd", "efi");
  await put(TPM, "tpm");
  await put("swtpm-localca/issuercert.pem", "pem");
  await put("swtpm/5d307ca9-b3ef-428c-8861-06e72d69f223/tpm2/.lock", "");
  await put("cbt/root.qcow2", "bitmap");
  await put("lost+found/1", "x");
  await put("meta/migrated", "");
  for (let run = 0; run < 2; run++) {
    await copy();
    expect(await contents()).toEqual({
      "nvram/orders-db_VARS.fd": "efi",
      [TPM]: "tpm",
      "swtpm-localca/issuercert.pem": "pem",
    });
  }
  expect((await stat(join(into, TPM))).mode & 0o007).toBe(0);
});

test("a claim with nothing on it is copied, too", async () => {
  await copy();
  expect(await contents()).toEqual({});
});

test("a link is not followed, to a file or to a directory", async () => {
  const secret = join(directory, "secret");
  await mkdir(secret);
  await writeFile(join(secret, "key"), "secret");
  await put("nvram/a_VARS.fd", "efi");
  await symlink(join(secret, "key"), join(from, "nvram/b_VARS.fd"));
  await symlink(secret, join(from, "swtpm"));
  await copy();
  expect(await contents()).toEqual({ "nvram/a_VARS.fd": "efi" });
});

test.each([
  ["many files", async () => Promise.all(Array.from({ length: 65 }, (_, index) => put(`nvram/${index}`, "x")))],
  ["much of it", async () => put("nvram/a_VARS.fd", Buffer.alloc(8 * 2 ** 20 + 1))],
])("too %s: refused", async (_, make) => {
  await make();
  await expect(copy()).rejects.toMatchObject({ code: "RELOCATION_STATE_TOO_LARGE" });
});
