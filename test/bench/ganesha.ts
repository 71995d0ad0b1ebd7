import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Where MOUNT is served; NFS is at 2049. */
export const GANESHA_MOUNT_PORT = 20048;

/**
 * The command that serves a directory, by its own path, with NFS-Ganesha (NFSv3 over TCP, its VFS backend), for everybody, as root.
 * It is to run in a network namespace of its own.
 */
export async function ganeshaCommand(scratch: string, directory: string): Promise<readonly string[]> {
  await mkdir(scratch, { recursive: true });
  const file = join(scratch, "ganesha.conf");
  await writeFile(
    file,
    `NFS_CORE_PARAM { Protocols = 3; NFS_Port = 2049; MNT_Port = ${GANESHA_MOUNT_PORT};
      Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }
    EXPORT { Export_Id = 1; Path = ${directory}; Pseudo = ${directory}; Protocols = 3; Transports = TCP;
      Access_Type = RW; Squash = none; SecType = sys; FSAL { Name = VFS; } }
    `,
  );
  return ["unshare", "--mount", "sh", join(import.meta.dirname, "ganesha.sh"), scratch, file];
}
