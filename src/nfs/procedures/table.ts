import { access } from "./access.ts";
import { commit } from "./commit.ts";
import { create } from "./create.ts";
import { fsinfo, fsstat, pathconf } from "./file-system.ts";
import { getattr } from "./getattr.ts";
import { lookup } from "./lookup.ts";
import type { Procedure } from "./procedure.ts";
import { read } from "./read.ts";
import { readdir, readdirplus } from "./readdir.ts";
import { refuseLink, refuseReadlink, refuseRename, refuseWithWcc } from "./refused.ts";
import { setattr } from "./setattr.ts";
import { write } from "./write.ts";

const nothing: Procedure = () => undefined;

/** NFS version 3's procedures by their number (RFC 1813, section 3). */
export const NFS_PROCEDURES: readonly Procedure[] = [
  nothing,
  getattr,
  setattr,
  lookup,
  access,
  refuseReadlink,
  read,
  write,
  create,
  refuseWithWcc, // MKDIR
  refuseWithWcc, // SYMLINK
  refuseWithWcc, // MKNOD
  refuseWithWcc, // REMOVE
  refuseWithWcc, // RMDIR
  refuseRename,
  refuseLink,
  readdir,
  readdirplus,
  fsstat,
  fsinfo,
  pathconf,
  commit,
];

/** Those that may not be carried out twice. */
export const WRITE_PROCEDURE = 7;
