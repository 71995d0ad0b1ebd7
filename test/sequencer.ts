import { statSync } from "node:fs";

interface Suite {
  readonly path: string;
}

/**
 * Integration tests first, then by size, the largest first: jest knows nothing of how long each takes on a fresh machine, and one that begins
 * last and takes a minute leaves half of the processors idle for as long.
 */
export default class Sequencer {
  sort(suites: readonly Suite[]): Suite[] {
    const keys = new Map(
      suites.map(({ path }) => [path, [path.includes("/test/") ? 1 : 0, statSync(path).size] as const]),
    );
    const key = ({ path }: Suite): readonly [number, number] => keys.get(path) ?? [0, 0];
    return [...suites].sort((a, b) => key(b)[0] - key(a)[0] || key(b)[1] - key(a)[1]);
  }

  shard(suites: readonly Suite[]): Suite[] {
    return [...suites];
  }

  allFailedTests(suites: readonly Suite[]): Suite[] {
    return [...suites];
  }

  cacheResults(): void {
    // Nothing is remembered.
  }
}
