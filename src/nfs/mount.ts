import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { NODE } from "./handle.ts";
import type { ServedExport } from "./served-export.ts";
import { readOpaque, writeOpaque } from "./xdr.ts";

const OK = 0;
const NO_ENTRY = 2;
const AUTH_SYS = 1;

export const MOUNT_PROCEDURE = { mnt: 1 } as const;

/** Who mounts, and what there is. */
export interface MountContext {
  readonly machine: string;
  findPath(path: string): ServedExport | undefined;
}

/**
 * MOUNT version 3 (RFC 1813, appendix I) by procedure number. EXPORT and DUMP tell nothing: an export's path is what lets
 * somebody mount it. Gives back whether the procedure exists.
 */
export function mountProcedure(
  procedure: number,
  args: ByteReader,
  reply: ByteWriter,
  { machine, findPath }: MountContext,
): boolean | Promise<boolean> {
  switch (procedure) {
    case MOUNT_PROCEDURE.mnt: {
      const served = findPath(readOpaque(args, 1024).toString("utf8"));
      if (served === undefined) {
        reply.u32be(NO_ENTRY);
        return true;
      }
      return served.target.mount(machine).then((mount) => {
        writeOpaque(reply.u32be(OK), served.handle(NODE.root, mount)).u32be(1).u32be(AUTH_SYS);
        return true;
      });
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
