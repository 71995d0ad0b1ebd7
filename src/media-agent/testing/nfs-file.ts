import { AGENT_PORTS } from "../../api/agent-config.ts";
import { type ByteReader, ByteWriter } from "../../base/bytes.ts";
import { RpcClient } from "../../nfs/testing/rpc-client.ts";
import { readOpaque, writeOpaque } from "../../nfs/xdr.ts";

const NFS = 100003;
const READ = 6;
const WRITE = 7;
const COMMIT = 21;
const UNSTABLE = 0;
const FILE_SYNC = 2;
const REPLY_LIMIT = 1024 * 1024;

/** Checks the status and skips the attributes before and after. */
function skipWcc(reply: ByteReader): ByteReader {
  const status = reply.u32be();
  if (status !== 0) throw new Error(`NFS status ${status}`);
  if (reply.u32be() !== 0) reply.skip(24);
  if (reply.u32be() !== 0) reply.skip(84);
  return reply;
}

/** The disk of an export as a mounted client uses it: its handle outlives connections and servers. */
export class NfsFile {
  readonly #client: RpcClient;
  readonly handle: Buffer;

  private constructor(client: RpcClient, handle: Buffer) {
    this.#client = client;
    this.handle = handle;
  }

  /** @param handle of an earlier mount; without it the path is mounted. Rejects where that is refused. */
  static async open(address: string, path: string, handle?: Buffer): Promise<NfsFile> {
    const client = await RpcClient.connect(AGENT_PORTS.nfs, address);
    try {
      return new NfsFile(client, handle ?? (await client.fileHandle(path)));
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** Rejects with the NFS status where it is not 0, or when the connection ends. */
  async read(offset: number, length: number): Promise<Buffer> {
    const args = writeOpaque(new ByteWriter(), this.handle).u64be(BigInt(offset)).u32be(length).finish();
    const reply = await this.#client.call(NFS, READ, args);
    const status = reply.u32be();
    if (status !== 0) throw new Error(`NFS status ${status}`);
    if (reply.u32be() !== 0) reply.skip(84);
    reply.skip(8);
    return Buffer.from(readOpaque(reply, REPLY_LIMIT));
  }

  /** Durable once a commit answers with the verifier that this one gives. */
  async writeUnstable(offset: number, data: Uint8Array): Promise<string> {
    const args = this.#client.writeArguments(this.handle, offset, data, UNSTABLE);
    const reply = await this.#client.call(NFS, WRITE, args);
    skipWcc(reply).skip(8);
    return reply.bytes(8).toString("hex");
  }

  /** The server's verifier. */
  async commit(): Promise<string> {
    const args = writeOpaque(new ByteWriter(), this.handle).u64be(0n).u32be(0).finish();
    const reply = await this.#client.call(NFS, COMMIT, args);
    return skipWcc(reply).bytes(8).toString("hex");
  }

  /** Durable when it resolves. */
  async write(offset: number, data: Uint8Array): Promise<void> {
    const args = this.#client.writeArguments(this.handle, offset, data, FILE_SYNC);
    const status = (await this.#client.call(NFS, WRITE, args)).u32be();
    if (status !== 0) throw new Error(`NFS status ${status}`);
  }

  /** Bytes of calls that the server has not taken yet. */
  get unsentBytes(): number {
    return this.#client.socket.writableLength;
  }

  close(): void {
    this.#client.close();
  }
}
