import { errorCode } from "../base/errors.ts";

/** nfsstat3 (RFC 1813, section 2.6). */
export const NFS3 = {
  ok: 0,
  perm: 1,
  noent: 2,
  io: 5,
  acces: 13,
  exist: 17,
  notdir: 20,
  isdir: 21,
  inval: 22,
  fbig: 27,
  nospc: 28,
  rofs: 30,
  nametoolong: 63,
  stale: 70,
  badhandle: 10001,
  notSync: 10002,
  badCookie: 10003,
  notsupp: 10004,
  toosmall: 10005,
  jukebox: 10008,
} as const;

/** What the client is told of an error of the export. */
export function statusOf(error: unknown): number {
  switch (errorCode(error)) {
    // The client's caller has the error at once: Linux tries neither of the two again.
    case "WRITER_FENCED":
      return NFS3.acces;
    case "DISK_SEALED":
      return NFS3.rofs;
    case "OVERLAY_FULL":
      return NFS3.nospc;
    case "TRY_LATER":
      return NFS3.jukebox;
    default:
      return NFS3.io;
  }
}
