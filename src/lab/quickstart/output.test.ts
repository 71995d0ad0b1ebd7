import { expect, test } from "@jest/globals";
import { describeProgress } from "./follow.ts";
import { createOutput } from "./output.ts";
import { textOf } from "./page.ts";
import { formatDuration, progressBar, renderTimeline } from "./timeline.ts";

test("a terminal's progress line is written over, a log's is printed now and then", () => {
  let seen = "";
  let now = 0;
  const log = createOutput(
    (text) => (seen += text),
    false,
    () => now,
  );
  log.step("Build");
  for (now = 0; now < 12_000; now += 1000) log.progress(`at ${now / 1000}`);
  log.line("done");
  expect(seen).toBe("\n1. Build\n   at 0\n   at 5\n   at 10\n   done\n");
  let shown = "";
  const terminal = createOutput(
    (text) => (shown += text),
    true,
    () => now,
  );
  terminal.progress("a");
  terminal.progress("b");
  terminal.line("done");
  expect(shown).toBe("\r\u001b[K   a\r\u001b[K   b\r\u001b[K   done\n");
});

test("what stands there already is not said again", () => {
  for (const isTerminal of [false, true]) {
    let seen = "";
    let now = 0;
    const output = createOutput(
      (text) => (seen += text),
      isTerminal,
      () => now,
    );
    output.line("Launching: the guest boots");
    for (const text of ["Launching: the guest boots", "50 %", "50 %", "100 %"]) {
      now += 10_000;
      output.progress(text);
    }
    expect(seen.match(/the guest boots/g)).toHaveLength(1);
    expect(seen.match(/50 %/g)).toHaveLength(1);
    expect(seen).toContain("100 %");
  }
});

test("figures are written as people read them", () => {
  expect([0, 900, 12_345, 125_000].map(formatDuration)).toEqual(["0.0 s", "0.9 s", "12.3 s", "2 min 5 s"]);
  expect(progressBar(0.5, 10)).toBe("█████░░░░░");
  expect(progressBar(2, 4)).toBe("████");
});

test("a page is shown as what it says", () => {
  expect(textOf("<!doctype html>\n<title>orders-db</title>\n<p>boots=2\n")).toBe("orders-db boots=2");
});

test("a copy's progress is told in bytes, and nothing is told that is not known", () => {
  const relocation = { percent: 25, bytesPerSecond: 1024 * 1024 };
  const disks = [{ name: "root", size: 100, bytesTotal: 4096, bytesRelocated: 1024 }];
  expect(describeProgress({ phase: "Relocating", relocation, disks })).toBe(
    "relocating ██████░░░░░░░░░░░░░░░░░░ 25 %  1.0 KiB of 4.0 KiB durable at the target, 1.0 MiB/s",
  );
  expect(describeProgress({ phase: "Pending", message: "The backup is being looked at." })).toBe(
    "Pending: The backup is being looked at.",
  );
  expect(describeProgress({})).toBe("Pending: the operator has not looked at it yet");
});

test("a copy of which every byte is durable tells what remains of it", () => {
  const relocation = { percent: 99 };
  const disk = { name: "root", size: 4096, bytesTotal: 4096, bytesRelocated: 4096 };
  const all = "relocating ████████████████████████ 99 %  4.0 KiB of 4.0 KiB durable at the target";
  const message = "All is copied but what the machine writes at this moment: 0 B.";
  const dirty = [{ ...disk, bytesDirty: 2048 }];
  expect(describeProgress({ phase: "Relocating", relocation, disks: dirty, message })).toBe(
    `${all}; 2.0 KiB written since are still to be copied`,
  );
  expect(describeProgress({ phase: "Relocating", relocation, disks: [disk], message })).toBe(
    `${all}; the last pass and the comparison remain`,
  );
  const comparing = "Every byte is on the target; its checksums are being compared.";
  expect(describeProgress({ phase: "CuttingOver", relocation, disks: [disk], message: comparing })).toBe(
    `CuttingOver: ${comparing}`,
  );
});

test("the timeline draws each step where it lay in time", () => {
  const at = (seconds: number): string => new Date(Date.UTC(2026, 0, 1) + seconds * 1000).toISOString();
  const lines = renderTimeline(
    [
      { step: "Preparing", startedAt: at(0), finishedAt: at(5) },
      { step: "Launching", startedAt: at(5), finishedAt: at(10) },
      { step: "Relocating", startedAt: at(10) },
    ],
    Date.parse(at(20)),
    20,
  );
  expect(lines).toEqual([
    "Preparing   │█████               │ 5.0 s",
    "Launching   │     █████          │ 5.0 s",
    "Relocating  │          ██████████│ 10.0 s and going on",
  ]);
});
