import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import * as fc from "fast-check";
import type { KubeObject } from "../object.ts";
import { FileJournal } from "./journal.ts";
import { Store } from "./store.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "vmrestore-journal-"));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

function open(into: string): { store: Store; journal: FileJournal } {
  const { journal, kept } = FileJournal.open(into);
  const store = new Store({ journal });
  store.load(kept.objects, kept.revision);
  return { store, journal };
}

const object = (name: string, value: number): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace: "default" },
  data: { value: String(value) },
});

test("a store that is opened again holds what it held, and goes on counting", () => {
  const operation = fc.record({ name: fc.constantFrom("a", "b", "c"), remove: fc.boolean(), reopen: fc.boolean() });
  let run = 0;
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
      const into = join(folder, String(run++));
      const model = new Map<string, string>();
      let { store, journal } = open(into);
      for (const [index, { name, remove, reopen }] of operations.entries()) {
        const before = store.revision;
        const present = store.get("/configmaps", "default", name);
        if (remove && present !== undefined) {
          store.remove("/configmaps", present);
          model.delete(name);
        } else if (!remove) {
          store.put("/configmaps", object(name, index));
          model.set(name, String(index));
        }
        const after = store.revision;
        expect(after).toBeGreaterThanOrEqual(before);
        if (reopen) {
          journal.close();
          ({ store, journal } = open(into));
          expect(store.revision).toBe(after);
        }
        const held = store
          .list("/configmaps")
          .map((item) => [item.metadata.name, (item.data as { value: string }).value]);
        expect(held).toEqual([...model].sort());
      }
      journal.close();
    }),
    { numRuns: 30 },
  );
});

test("a line that was cut short by a crash is left out", async () => {
  const { store, journal } = open(folder);
  store.put("/configmaps", object("a", 1));
  journal.close();
  await appendFile(join(folder, "objects.jsonl"), '{"revision":99,"resource":"/configmaps","key":"default/b","obj');
  const again = open(folder);
  expect(again.store.list("/configmaps").map((item) => item.metadata.name)).toEqual(["a"]);
  again.journal.close();
});

test("a damaged line is refused, and the file stays as it is", async () => {
  const path = join(folder, "objects.jsonl");
  await writeFile(path, '{"revision":1}\n');
  expect(() => open(folder)).toThrow(expect.objectContaining({ code: "LAB_JOURNAL_DAMAGED" }));
  expect(await readFile(path, "utf8")).toBe('{"revision":1}\n');
});
