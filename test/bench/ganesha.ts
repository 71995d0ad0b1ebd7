import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

interface Ganesha {
  /** Its configuration, pid and log lie here. */
  readonly scratch: string;
  /** What is exported, by its own path. */
  readonly directory: string;
  readonly address: string;
  readonly ports: { readonly nfs: number; readonly mount: number };
}

/** The command that serves a directory with NFS-Ganesha (NFSv3 over TCP, its VFS backend), for everybody, as root. */
export async function ganeshaCommand({ scratch, directory, address, ports }: Ganesha): Promise<readonly string[]> {
  await mkdir(scratch, { recursive: true });
  const file = join(scratch, "ganesha.conf");
  await writeFile(
    file,
    `NFS_CORE_PARAM { Protocols = 3; NFS_Port = ${ports.nfs}; MNT_Port = ${ports.mount}; Bind_addr = ${address};
      Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }
    EXPORT { Export_Id = 1; Path = ${directory}; Pseudo = ${directory}; Protocols = 3; Transports = TCP;
      Access_Type = RW; Squash = none; SecType = sys; FSAL { Name = VFS; } }
    `,
  );
  return [
    "ganesha.nfsd",
    ...["-F", "-N", "NIV_WARN"],
    ...["-f", file, "-p", join(scratch, "ganesha.pid"), "-L", join(scratch, "ganesha.log")],
  ];
}

export async function startGanesha(options: Ganesha): Promise<ChildProcess> {
  const [program = "", ...args] = await ganeshaCommand(options);
  return spawn(program, args, { stdio: "ignore" });
}
