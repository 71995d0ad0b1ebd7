import { fdatasyncSync, writeSync } from "node:fs";
import { workerData } from "node:worker_threads";
import { errorCode, errorMessage } from "../../base/errors.ts";
import { FIELD, FIELDS, KIND, type SharedSteps, type StepFailure, WORD } from "./step-protocol.ts";

const { control, fields, bytes } = workerData as SharedSteps;

/** The bytes that a write takes, from where the one before ended. */
function carryOut(step: number, from: number): number {
  const field = (name: keyof typeof FIELD): number => fields[step * FIELDS + FIELD[name]] ?? 0;
  const descriptor = field("descriptor");
  if (field("kind") === KIND.datasync) {
    fdatasyncSync(descriptor);
    return from;
  }
  const length = field("length");
  let done = 0;
  while (done < length) done += writeSync(descriptor, bytes, from + done, length - done, field("offset") + done);
  return from + length;
}

function carryOutAll(): void {
  let at = 0;
  for (let step = 0; step < (control[WORD.steps] ?? 0); step++) {
    try {
      at = carryOut(step, at);
    } catch (error) {
      const failure: StepFailure = { code: errorCode(error), message: errorMessage(error) };
      control[WORD.failureBytes] = Buffer.from(bytes.buffer).write(JSON.stringify(failure));
      control[WORD.failed] = step + 1;
      return;
    }
  }
  control[WORD.failed] = 0;
}

let last = 0;
Atomics.store(control, WORD.ready, 1);
for (;;) {
  Atomics.wait(control, WORD.request, last);
  const request = Atomics.load(control, WORD.request);
  if (request === last) continue;
  last = request;
  carryOutAll();
  Atomics.store(control, WORD.done, request);
  Atomics.notify(control, WORD.done);
}
