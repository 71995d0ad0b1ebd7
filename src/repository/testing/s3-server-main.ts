import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import S3rver from "@20minutes/s3rver";

/**
 * An S3 server as a process of its own, on a free port of 127.0.0.1 that it says on standard output. Arguments: directory, name of
 * the one bucket. Buckets are named by path, or by a host that ends in `.s3.test`. Its key and secret are `S3RVER`. With
 * a third argument `lenient` it takes any signature of that key: it does not understand those of restic's and of named hosts.
 */
const [directory = "", bucket = "", mode = ""] = process.argv.slice(2);

await mkdir(join(directory, bucket), { recursive: true });
const server = new S3rver({
  directory,
  address: "127.0.0.1",
  port: 0,
  silent: true,
  allowMismatchedSignatures: mode === "lenient",
  serviceEndpoint: "test",
  vhostBuckets: true,
  configureBuckets: [{ name: bucket }],
});
const { port } = await server.run();
process.stdout.write(`${port}\n`);
process.once("disconnect", () => process.exit(0));
