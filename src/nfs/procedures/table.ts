import { access } from "./access.ts";
import { commit } from "./commit.ts";
import { create } from "./create.ts";
import { fsinfo, fsstat, pathconf } from "./file-system.ts";
import { getattr } from "./getattr.ts";
import { lookup } from "./lookup.ts";
import type { Procedure } from "./procedure.ts";
import { read } from "./read.ts";
import { readdir, readdirplus } from "./readdir.ts";
import { refuseChange, refuseKind, refuseLink, refuseReadlink, refuseRename } from "./refused.ts";
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
  refuseChange, // MKDIR
  refuseKind, // SYMLINK
  refuseKind, // MKNOD
  refuseChange, // REMOVE
  refuseChange, // RMDIR
  refuseRename,
  refuseLink,
  readdir,
  readdirplus,
  fsstat,
  fsinfo,
  pathconf,
  commit,
];

/** Numbers of those that are told apart from the rest. */
export const PROCEDURE = { read: 6, write: 7, commit: 21 } as const;
