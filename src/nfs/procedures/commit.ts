import { writeWcc } from "../attributes.ts";
import { NODE } from "../handle.ts";
import { NFS3, statusOf } from "../status.ts";
import { failWithWcc, type Procedure, REFUSED_HANDLE, readNode } from "./procedure.ts";

/** RFC 1813, section 3.3.21: everything that was answered before is durable, whatever range is named. */
export const commit: Procedure = (args, reply, context) => {
  const node = readNode(args, context);
  if (node === undefined) return failWithWcc(reply, REFUSED_HANDLE, undefined);
  if (node.kind !== NODE.file) return failWithWcc(reply, NFS3.isdir, node);
  return node.served.target.commit().then(
    () => {
      writeWcc(reply.u32be(NFS3.ok), node.served, node.kind);
      reply.bytes(context.verifier);
      return undefined;
    },
    (error: unknown) => {
      context.report(error);
      return failWithWcc(reply, statusOf(error), node);
    },
  );
};
