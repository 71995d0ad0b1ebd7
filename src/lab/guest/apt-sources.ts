import { readFile } from "node:fs/promises";
import { runCommand } from "../quickstart/command.ts";
import { GuestImageError } from "./disk-layout.ts";

/** What mmdebstrap needs to use the same mirrors, by the same way, as this machine. */
interface AptSources {
  /** The release that the mirrors are configured for, e.g. `bookworm`. */
  readonly suite: string;
  /** One-line-style sources. */
  readonly lines: readonly string[];
  /** apt options such as a proxy. */
  readonly options: readonly string[];
}

/** The machine's own Debian sources: other vendors' are left out, they have no place in a guest. */
export async function machineAptSources(signal: AbortSignal): Promise<AptSources> {
  const format = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(COMPONENT)";
  const targets = await runCommand("apt-get", ["indextargets", "--format", format, "Created-By: Packages"], { signal });
  const suite = /^VERSION_CODENAME=(\w+)$/m.exec(await readFile("/etc/os-release", "utf8"))?.[1];
  const lines = sourceLines(targets, suite ?? "");
  if (suite === undefined || lines.length === 0) {
    throw new GuestImageError("apt has no Debian sources for this release", {
      hint: "The guest is built from the machine's apt sources: configure Debian's and run `apt-get update`.",
    });
  }
  const configuration = await runCommand("apt-config", ["dump"], { signal });
  return { suite, lines, options: configuration.split("\n").filter((line) => /^Acquire::https?::proxy\b/i.test(line)) };
}

/** The one-line sources of a release (and its updates and security suites) in apt's list of index targets. */
export function sourceLines(indexTargets: string, suite: string): string[] {
  const lines = indexTargets.split("\n").flatMap((line) => {
    const [origin, codename, uri, component] = line.split("|");
    if (origin !== "Debian" || codename?.split("-")[0] !== suite || uri === undefined) return [];
    return [`deb ${uri} ${codename} ${component}`];
  });
  return [...new Set(lines)];
}
