import { readFile } from "node:fs/promises";

const SAMPLE_MS = 100;
/** Of the kernel's clock that processor time is told in (`getconf CLK_TCK`; 100 on every Linux that is met). */
const TICKS_PER_SECOND = 100;

/** What a process took over a span of time. */
export interface Usage {
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** The most that it held besides the page cache and mapped files. */
  readonly peakBytes: number;
}

/** Watches a process until the function that it gives back is called. */
export async function watchProcess(pid: number): Promise<() => Promise<Usage>> {
  const begun = performance.now();
  const cpu = await cpuSeconds(pid);
  let peakBytes = 0;
  const sample = async (): Promise<void> => {
    const status = await readFile(`/proc/${pid}/status`, "latin1").catch(() => "");
    const held = Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
    peakBytes = Math.max(peakBytes, held);
  };
  const timer = setInterval(() => void sample(), SAMPLE_MS);
  return async () => {
    clearInterval(timer);
    await sample();
    const used = (await cpuSeconds(pid)) - cpu;
    return { seconds: (performance.now() - begun) / 1000, cpuSeconds: used, peakBytes };
  };
}

async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1");
  // The program's name, in parentheses, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
