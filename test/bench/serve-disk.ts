import { readFile } from "node:fs/promises";
import { agentConfig } from "../../src/api/agent-config.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { overlayDirectory } from "../../src/disk/overlay/files.ts";
import { Overlay } from "../../src/disk/overlay/overlay.ts";
import type { ExportObserver } from "../../src/media-agent/exported-disk.ts";
import { AgentMetrics } from "../../src/media-agent/metrics.ts";
import { nbdDisk } from "../../src/media-agent/nbd-disk.ts";
import { nfsDisk } from "../../src/media-agent/nfs-disk.ts";
import { ReadPath } from "../../src/media-agent/read-path.ts";
import { openSource } from "../../src/media-agent/repository-source.ts";
import { NbdServer } from "../../src/nbd/server.ts";
import { NfsServer } from "../../src/nfs/server.ts";
import { LocalBackend } from "../../src/repository/backends/local.ts";

/**
 * The media agent's own read path, served so that it is measured as the peers are: NBD over a UNIX socket in the clear, or NFS.
 * `serve-disk.ts CONFIG REPOSITORY PASSWORD_FILE STATE SOCKET`, or `serve-disk.ts … ADDRESS:PORT EXPORT_PATH`
 */
const [configFile = "", repository = "", passwordFile = "", state = "", where = "", exportPath] = process.argv.slice(2);
const config = agentConfig.parse(JSON.parse(await readFile(configFile, "utf8")));
const metrics = new AgentMetrics();
const source = await openSource(
  {
    config,
    backend: () => new LocalBackend(repository),
    password: await readFile(passwordFile, "utf8"),
    clock: systemClock,
    log: silentLogger,
    onWait: () => undefined,
  },
  new AbortController().signal,
);
const reads = await ReadPath.open({
  source,
  config,
  cacheDirectory: `${state}/cache`,
  clock: systemClock,
  metrics,
  relocated: () => 0,
  onGuestRead: () => undefined,
});
const nbd = new NbdServer();
const observer: ExportObserver = {
  read: metrics.read.bind(metrics),
  written: metrics.written.bind(metrics),
  reading: () => ({ readClass: "guest", end: () => undefined }),
};
const nfs = new NfsServer({ onError: (error) => process.stderr.write(`${String(error)}\n`) });
for (const { name, image } of reads.disks) {
  const directory = overlayDirectory(state);
  const overlay = await Overlay.open({ directory, disk: name, base: image, epoch: 1, clock: systemClock });
  if (exportPath === undefined) nbd.addExport(nbdDisk(name, overlay, metrics));
  else {
    const handleKey = Buffer.alloc(32, 7).toString("base64url");
    const state = { exportPath, handleKey, fsid: "1", bus: "virtio" } as const;
    nfs.addExport(nfsDisk({ name, device: overlay, state, observer, limit: () => undefined }));
  }
}
if (exportPath === undefined) await nbd.listen({ path: where });
else {
  const [address = "", port] = where.split(":");
  await nfs.listen(address, Number(port));
}
process.stdout.write("listening\n");
