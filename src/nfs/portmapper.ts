import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server } from "node:net";
import { RecordReader } from "./record-reader.ts";
import { ACCEPT, acceptedReply, parseCall } from "./rpc.ts";

const PORT = 111;
const PORTMAPPER = 100000;
const GETPORT = 3;
const SERVED = new Set([100003, 100005]);
const TCP = 6;

/**
 * Answers GETPORT for NFS and MOUNT (RFC 1833, version 2) on an address of its own. QEMU's own NFS driver takes no port and asks
 * here; the kernel's client is told both ports and never does.
 */
export class Portmapper {
  readonly #tcp: Server;
  readonly #udp: UdpSocket;

  private constructor(tcp: Server, udp: UdpSocket) {
    this.#tcp = tcp;
    this.#udp = udp;
  }

  /** @param nfsPort what both programs are said to listen on */
  static async listen(address: string, nfsPort: number): Promise<Portmapper> {
    const udp = createSocket("udp4");
    udp.on("message", (message, peer) => {
      const answer = answerCall(message, nfsPort);
      if (answer !== undefined) udp.send(answer, peer.port, peer.address);
    });
    const tcp = createServer((socket) => {
      const reader = new RecordReader(4096);
      socket.on("error", () => socket.destroy());
      socket.on("data", (piece) => {
        try {
          for (const record of reader.push(piece)) {
            const answer = answerCall(record, nfsPort);
            if (answer === undefined) throw new Error("not a call");
            const mark = Buffer.alloc(4);
            mark.writeUInt32BE((0x80000000 | answer.length) >>> 0);
            socket.write(Buffer.concat([mark, answer]));
          }
        } catch {
          socket.destroy();
        }
      });
    });
    await new Promise<void>((resolve, reject) => {
      tcp.once("error", reject);
      tcp.listen(PORT, address, resolve);
    });
    await new Promise<void>((resolve, reject) => {
      udp.once("error", reject);
      udp.bind(PORT, address, resolve);
    });
    return new Portmapper(tcp, udp);
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.#udp.close(() => resolve()));
    await new Promise((resolve) => this.#tcp.close(resolve));
  }
}

function answerCall(message: Buffer, nfsPort: number): Buffer | undefined {
  try {
    const call = parseCall(message);
    if (call.program !== PORTMAPPER) return acceptedReply(call.xid, ACCEPT.programUnavailable).finish();
    if (call.procedure === 0) return acceptedReply(call.xid, ACCEPT.success).finish();
    if (call.procedure !== GETPORT) return acceptedReply(call.xid, ACCEPT.procedureUnavailable).finish();
    const program = call.args.u32be();
    call.args.skip(4);
    const isServed = SERVED.has(program) && call.args.u32be() === TCP;
    return acceptedReply(call.xid, ACCEPT.success)
      .u32be(isServed ? nfsPort : 0)
      .finish();
  } catch {
    return undefined;
  }
}
