import { expect, test } from "@jest/globals";
import { machineAptSources, sourceLines } from "./apt-sources.ts";

test("only Debian's own suites of the wanted release are taken, once each", () => {
  const targets = [
    "Debian|bookworm|http://mirror.example/debian/|main",
    "Debian|bookworm|http://mirror.example/debian/|main",
    "Debian|bookworm-security|http://mirror.example/security/|main",
    "Debian|trixie|http://mirror.example/debian/|main",
    "Vendor|bookworm|http://vendor.example/apt/|main",
    "",
  ].join("\n");
  expect(sourceLines(targets, "bookworm")).toEqual([
    "deb http://mirror.example/debian/ bookworm main",
    "deb http://mirror.example/security/ bookworm-security main",
  ]);
});

test("this machine's sources name its release", async () => {
  const sources = await machineAptSources(AbortSignal.timeout(20_000));
  expect(sources.lines.length).toBeGreaterThan(0);
  for (const line of sources.lines) expect(line).toContain(` ${sources.suite}`);
});
