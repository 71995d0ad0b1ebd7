import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { CopyMeter } from "./copy-meter.ts";

const MIB = 1024 * 1024;

/** A meter whose agent is looked at after so many seconds each time. */
class Bench {
  readonly clock = new ManualClock();
  readonly meter = new CopyMeter(this.clock);
  instance = "a";

  /** @param places MiB by disk, in order; undefined: not told */
  async look(afterSeconds: number, ...places: (number | undefined)[]): Promise<number | undefined> {
    await this.clock.advance(afterSeconds * 1000);
    const disks = places.map((place, index) => ({
      name: `disk-${index}`,
      copiedUntil: place === undefined ? undefined : place * MIB,
    }));
    const rate = this.meter.look({ instance: this.instance, disks });
    return rate === undefined ? undefined : rate / MIB;
  }
}

test("is what the copy gained in the last ten seconds, and nothing before there is enough to tell", async () => {
  const bench = new Bench();
  expect(await bench.look(0, undefined)).toBeUndefined();
  // In what time these were read nobody knows.
  expect(await bench.look(60, 128)).toBeUndefined();
  expect(await bench.look(1, 228)).toBeUndefined();
  expect(await bench.look(1, 328)).toBeCloseTo(100);
  expect(await bench.look(0, 328)).toBeCloseTo(100);
  for (let second = 1; second <= 10; second++) await bench.look(1, 328 + 10 * second);
  expect(await bench.look(0, 428)).toBeCloseTo(10);
});

test("goes away when the copy stands still", async () => {
  const bench = new Bench();
  await bench.look(0, 128);
  expect(await bench.look(4, 528)).toBeCloseTo(100);
  expect(await bench.look(4, 528)).toBeCloseTo(50);
  expect(await bench.look(10, 528)).toBeUndefined();
});

test("looks that are far apart tell of the whole time between them, not of the window alone", async () => {
  const bench = new Bench();
  await bench.look(0, 128);
  expect(await bench.look(600, 128 + 6000)).toBeCloseTo(10);
  expect(await bench.look(4, 6128 + 40)).toBeCloseTo(10);
});

test("an agent that was started anew and another attempt are measured anew", async () => {
  const bench = new Bench();
  await bench.look(0, 128);
  expect(await bench.look(2, 328)).toBeCloseTo(100);
  expect(await bench.look(2, 200)).toBeUndefined();
  expect(await bench.look(2, 220)).toBeCloseTo(10);
  bench.instance = "b";
  expect(await bench.look(2, 5000)).toBeUndefined();
  expect(await bench.look(2, undefined)).toBeUndefined();
  expect(await bench.look(2, 9000)).toBeUndefined();
  expect(await bench.look(2, 9020)).toBeCloseTo(10);
});

test("disks are counted together, each from where it was first told", async () => {
  const bench = new Bench();
  await bench.look(0, 128, undefined);
  expect(await bench.look(2, 148, 50_000)).toBeCloseTo(10);
  expect(await bench.look(2, 168, 50_020)).toBeCloseTo(15);
});
