import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { workerUrl } from "../../base/worker-url.ts";
import { type FileStep, StepError } from "./file-steps.ts";
import type { OverlayFile } from "./files.ts";
import { MOST_BYTES, type SharedSteps, WORD } from "./step-protocol.ts";
import { StepThread } from "./step-thread.ts";

/** A real file that says what came by the usual way. */
class TestFile implements OverlayFile {
  readonly descriptor: number;
  readonly path: string;
  readonly usual: string[] = [];
  readonly size = 0;

  constructor(path: string) {
    this.path = path;
    this.descriptor = openSync(path, "w+");
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.usual.push(`write ${bytes.length}`);
  }

  async datasync(): Promise<void> {
    this.usual.push("datasync");
  }

  read = (): Promise<void> => Promise.reject(new Error("not asked for"));
  truncate = this.read;

  async close(): Promise<void> {
    closeSync(this.descriptor);
  }
}

let directory: string;
let file: TestFile;
let shared: SharedSteps;
let worker: Worker;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "steps-"));
  file = new TestFile(join(directory, "file"));
});

afterEach(async () => {
  await worker?.terminate();
  await file.close();
  await rm(directory, { recursive: true, force: true });
});

const descriptorOf = (asked: OverlayFile): number | undefined => (asked as TestFile).descriptor;

/** One whose thread takes requests. */
async function readyThread(): Promise<StepThread> {
  const thread = new StepThread(descriptorOf, (memory) => {
    shared = memory;
    worker = new Worker(workerUrl(import.meta.url, "./step-worker"), { workerData: memory });
    return worker;
  });
  await thread.carryOut([{ kind: "datasync", file }]);
  expect(file.usual.splice(0)).toEqual(["datasync"]); // nobody waits for the thread
  while (Atomics.load(shared.control, WORD.ready) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  return thread;
}

const write = (offset: number, text: string): FileStep => ({ kind: "write", file, bytes: Buffer.from(text), offset });
const sync = (): FileStep => ({ kind: "datasync", file });

test("writes and syncs are carried out by the thread, each with its own bytes at its own place", async () => {
  const thread = await readyThread();
  await thread.carryOut([write(2, "data"), sync(), write(5_000_000_000, "far"), sync()]);
  await thread.carryOut([write(0, "ab"), sync()]);
  expect(file.usual).toEqual([]);
  const start = Buffer.alloc(6);

  readSync(file.descriptor, start, 0, 6, 0);
  expect(start.toString()).toBe("abdata");
  const far = Buffer.alloc(3);
  readSync(file.descriptor, far, 0, 3, 5_000_000_000);
  expect(far.toString()).toBe("far");
});

test("a step that fails tells which it was and why, and those after it are not begun", async () => {
  const thread = await readyThread();
  const closed = new TestFile(join(directory, "closed"));
  await closed.close();
  const steps: FileStep[] = [write(0, "first"), { kind: "datasync", file: closed }, write(0, "later")];
  const failure = await thread.carryOut(steps).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(StepError);
  expect(failure).toMatchObject({ step: 1, cause: { code: "EBADF" } });

  expect(readFileSync(file.path, "utf8")).toBe("first");
  await thread.carryOut([write(0, "after"), sync()]);
  expect(readFileSync(file.path, "utf8")).toBe("after");
});

test("what comes beside a request, or is too large, or belongs to no real file, goes the usual way", async () => {
  const thread = await readyThread();
  const first = thread.carryOut([write(0, "thread"), sync()]);
  await thread.carryOut([write(0, "beside"), sync()]);
  await first;
  expect(file.usual.splice(0)).toEqual(["write 6", "datasync"]);
  expect(readFileSync(file.path, "utf8")).toBe("thread");
  await thread.carryOut([write(0, "x".repeat(MOST_BYTES + 1))]);
  await thread.carryOut([sync(), sync(), sync(), sync(), sync()]);
  expect(file.usual).toEqual([`write ${MOST_BYTES + 1}`, ...Array.from({ length: 5 }, () => "datasync")]);
  const whole = "y".repeat(MOST_BYTES);
  await thread.carryOut([write(0, whole)]);
  expect(readFileSync(file.path, "utf8")).toBe(whole);
});

test("a thread that ends fails what it had under way, and all goes the usual way from then on", async () => {
  const pretended = new StepThread(descriptorOf, (memory) => {
    shared = memory;
    worker = new Worker("setTimeout(() => { throw new Error('gone'); }, 50)", { eval: true });
    return worker;
  });
  await pretended.carryOut([sync()]);
  Atomics.store(shared.control, WORD.ready, 1);
  const failure = await pretended.carryOut([write(0, "lost")]).catch((error: unknown) => error);
  expect(failure).toMatchObject({ step: 0, cause: { cause: { message: "gone" } } });
  file.usual.splice(0);
  await pretended.carryOut([write(0, "usual")]);
  expect(file.usual).toEqual(["write 5"]);
});
