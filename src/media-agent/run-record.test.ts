import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { silentLogger } from "../base/logging.ts";
import { RunRecord } from "./run-record.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "run-record-"));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const run = (node: string, now: number): Promise<RunRecord> => RunRecord.open(directory, node, silentLogger, now);
const settled = async (): Promise<unknown> => JSON.parse(await readFile(join(directory, "run.json"), "utf8"));

test("a run on another node is a move: from when the last one stopped until the first answer", async () => {
  const first = await run("a", 0);
  first.answered(5);
  expect(first.move).toBeUndefined();
  await first.stopped(100);
  const second = await run("b", 900);
  expect(second.move).toEqual({ from: "a", to: "b", started: 900, stopped: 100 });
  second.answered(1300);
  second.answered(1400);
  expect(second.move).toEqual({ from: "a", to: "b", started: 900, stopped: 100, answered: 1300 });
  await second.stopped(2000);
  // In place: the last move is remembered as it was.
  const third = await run("b", 2500);
  third.answered(2600);
  expect(third.move).toEqual(second.move);
  await third.stopped(2700); // with all that is written before it
});

test("one that did not end in order leaves no time, also where the one before it did", async () => {
  await (await run("a", 0)).stopped(100);
  await run("b", 200); // killed
  expect((await run("a", 300)).move).toEqual({ from: "b", to: "a", started: 300 });
});

test("killed after it moved and before anybody asked: the next one in its place measures to the first answer that there was", async () => {
  await (await run("a", 0)).stopped(100);
  await run("b", 200);
  const next = await run("b", 400);
  next.answered(500);
  expect(next.move).toEqual({ from: "a", to: "b", started: 200, stopped: 100, answered: 500 });
  await next.stopped(600);
});

test("moved on before anybody had an answer: nobody had one since the node before that", async () => {
  await (await run("a", 0)).stopped(100);
  await (await run("b", 200)).stopped(300);
  const third = await run("c", 400);
  third.answered(500);
  expect(third.move).toEqual({ from: "b", to: "c", started: 400, stopped: 100, answered: 500 });
  await third.stopped(550);
  // It is not known where one between was killed that may have answered.
  await run("d", 600);
  await (await run("e", 700)).stopped(800);
  expect((await run("f", 900)).move).toEqual({ from: "e", to: "f", started: 900 });
});

test("where nobody was served when it was asked to end, nobody waited: a machine that is started days later was not paused for days", async () => {
  await (await run("a", 0)).stopped(100, "unused");
  const second = await run("b", 200);
  second.answered(1_000_000);
  expect(second.move).toEqual({ from: "a", to: "b", started: 200, answered: 1_000_000 });
  // One that answers nobody before it moves on has left somebody waiting all the same.
  await second.stopped(1_000_100);
  await (await run("c", 1_000_200)).stopped(1_000_300, "unused");
  expect((await run("d", 1_000_400)).move).toMatchObject({ from: "c", to: "d", stopped: 1_000_100 });
});

test("what cannot be read or written is done without", async () => {
  await writeFile(join(directory, "run.json"), "{");
  const first = await run("a", 0);
  expect(first.move).toBeUndefined();
  expect(await settled()).toEqual({ node: "a" });
  await mkdir(join(directory, "run.json.new")); // nothing can be written any more
  await first.stopped(7);
  expect((await run("b", 9)).move).toBeUndefined();
});
