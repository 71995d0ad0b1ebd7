import { readFile } from "node:fs/promises";
import { agentConfig } from "../../src/api/agent-config.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logging.ts";
import { overlayDirectory } from "../../src/disk/overlay/files.ts";
import { Overlay } from "../../src/disk/overlay/overlay.ts";
import { AgentMetrics } from "../../src/media-agent/metrics.ts";
import { nbdDisk } from "../../src/media-agent/nbd-disk.ts";
import { ReadPath } from "../../src/media-agent/read-path.ts";
import { openSource } from "../../src/media-agent/repository-source.ts";
import { NbdServer } from "../../src/nbd/server.ts";
import { LocalBackend } from "../../src/repository/backends/local.ts";
import { RestBackend } from "../../src/repository/backends/rest.ts";

/**
 * The media agent's own read path behind NBD without TLS, so that it is measured as the peers are: over a UNIX socket, in the clear.
 * The repository is a directory or the URL of a REST server. `serve-disk.ts CONFIG REPOSITORY PASSWORD_FILE STATE SOCKET`
 */
const [configFile = "", repository = "", passwordFile = "", state = "", socket = ""] = process.argv.slice(2);
const config = agentConfig.parse(JSON.parse(await readFile(configFile, "utf8")));
const metrics = new AgentMetrics();
const source = await openSource(
  {
    config,
    places: [
      {
        backend: () => (repository.startsWith("http") ? new RestBackend(repository) : new LocalBackend(repository)),
        password: () => readFile(passwordFile, "utf8"),
      },
    ],
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
  onMissing: () => undefined,
  onHydrated: () => undefined,
});
const server = new NbdServer();
for (const { name, image } of reads.disks) {
  const overlay = await Overlay.open({
    directory: overlayDirectory(state),
    disk: name,
    base: image,
    epoch: 1,
    clock: systemClock,
  });
  server.addExport(nbdDisk(name, overlay, metrics));
}
await server.listen({ path: socket });
process.stdout.write("listening\n");
