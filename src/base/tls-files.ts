import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** One side of mutual TLS; each PEM. The others must show a certificate of `ca`. */
export interface TlsFiles {
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
}

/** From `tls.key`, `tls.crt` and `ca.crt` in a directory, as Secrets of the type `kubernetes.io/tls` are mounted. */
export async function readTls(directory: string): Promise<TlsFiles> {
  const read = (name: string): Promise<string> => readFile(join(directory, name), "utf8");
  const [key, cert, ca] = await Promise.all([read("tls.key"), read("tls.crt"), read("ca.crt")]);
  return { key, cert, ca };
}
