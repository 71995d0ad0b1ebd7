import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { NODE } from "./handle.ts";
import type { ServedExport } from "./served-export.ts";
import { readOpaque, writeOpaque } from "./xdr.ts";

const OK = 0;
const NO_ENTRY = 2;
const AUTH_SYS = 1;

/**
 * MOUNT version 3 (RFC 1813, appendix I) by procedure number. EXPORT and DUMP tell nothing: an export's path is what lets
 * somebody mount it. Gives back whether the procedure exists.
 */
export function mountProcedure(
  procedure: number,
  args: ByteReader,
  reply: ByteWriter,
  findPath: (path: string) => ServedExport | undefined,
): boolean {
  switch (procedure) {
    case 1: {
      const served = findPath(readOpaque(args, 1024).toString("utf8"));
      if (served === undefined) reply.u32be(NO_ENTRY);
      else writeOpaque(reply.u32be(OK), served.handle(NODE.root)).u32be(1).u32be(AUTH_SYS);
      return true;
    }
    case 2: // DUMP: an empty list
    case 5: // EXPORT: an empty list
      reply.u32be(0);
      return true;
    case 0:
    case 3:
    case 4:
      return true;
    default:
      return false;
  }
}
