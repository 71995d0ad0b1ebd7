import { beforeEach, expect, test } from "@jest/globals";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { RepositoryError, type RepositoryErrorCode } from "../repository/errors.ts";
import { Pin } from "./pin.ts";

const MINUTE = 60_000;

/** A repository that fails as it is told, and remembers what was asked of it. */
class PinnedRepository {
  failure: RepositoryErrorCode | undefined;
  there = false;
  forgotten = false;
  calls: string[] = [];

  async pin(): Promise<string> {
    this.#ask("pin");
    this.there = true;
    return "id";
  }

  async isPinned(): Promise<boolean> {
    this.#ask("isPinned");
    return this.there;
  }

  async snapshot(): Promise<void> {
    if (this.forgotten) throw new RepositoryError("SNAPSHOT_NOT_FOUND", "it was forgotten");
    if (this.failure === "REPOSITORY_UNREACHABLE") throw new RepositoryError(this.failure, "away");
  }

  async unpin(): Promise<void> {
    this.#ask("unpin");
    this.there = false;
  }

  #ask(what: string): void {
    this.calls.push(what);
    if (this.failure !== undefined) throw new RepositoryError(this.failure, `it is ${this.failure}`);
  }
}

let repository: PinnedRepository;
let clock: ManualClock;
let warnings: string[];
let pin: Pin;
let stopping: AbortController;
let told: boolean[];

beforeEach(() => {
  repository = new PinnedRepository();
  clock = new ManualClock();
  warnings = [];
  stopping = new AbortController();
  told = [];
  const log = { warn: (_: unknown, text: string) => warnings.push(text) } as never;
  pin = new Pin({ repository, snapshot: "s", uid: "u", clock, log, onLost: (lost) => told.push(lost) });
});

/** Begins, and lets it come to rest. */
async function keep(): Promise<void> {
  void pin.keep(stopping.signal);
  await clock.advance(0);
}

test.each(["REPOSITORY_READ_ONLY", "REPOSITORY_LOCKED", "REPOSITORY_UNREACHABLE"] as const)(
  "%s: says so, tries again soon and then every minute, and pins when that has passed",
  async (failure) => {
    repository.failure = failure;
    await keep();
    expect(pin).toMatchObject({ pinned: false, message: `not pinned: it is ${failure}` });
    await clock.advance(1000);
    expect(repository.calls).toHaveLength(2);
    await clock.advance(2 * MINUTE);
    const asked = repository.calls.length;
    expect(asked).toBeLessThan(10);
    await clock.advance(3 * MINUTE);
    expect(repository.calls).toHaveLength(asked + 3);
    repository.failure = undefined;
    await clock.advance(MINUTE);
    expect(pin).toMatchObject({ pinned: true, message: "" });
    stopping.abort();
  },
);

test("a pin that somebody forgot is made again, and that is told", async () => {
  await keep();
  repository.there = false;
  await clock.advance(10 * MINUTE);
  expect(repository.calls).toEqual(["pin", "isPinned", "pin"]);
  expect(warnings).toEqual([expect.stringContaining("gone")]);
  expect(pin.pinned).toBe(true);
  stopping.abort();
});

test("a pin that is gone together with the snapshot: unpinned, in so many words", async () => {
  await keep();
  repository.there = false;
  repository.pin = async () => {
    throw new RepositoryError("SNAPSHOT_NOT_FOUND", "it was forgotten");
  };
  await clock.advance(10 * MINUTE);
  expect(pin).toMatchObject({ pinned: false, message: "not pinned: it was forgotten", lost: true });
  expect(told).toEqual([true]);
  repository.pin = PinnedRepository.prototype.pin;
  await clock.advance(MINUTE);
  expect(pin).toMatchObject({ pinned: true, lost: false });
  expect(told).toEqual([true, false]);
  stopping.abort();
});

test.each(["REPOSITORY_READ_ONLY", "REPOSITORY_LOCKED"] as const)(
  "%s: a snapshot that was forgotten meanwhile is noticed all the same",
  async (failure) => {
    repository.failure = failure;
    await keep();
    expect(told).toEqual([]);
    repository.forgotten = true;
    await clock.advance(MINUTE);
    expect(told).toEqual([true]);
    stopping.abort();
  },
);

test("a repository that is away has lost nothing", async () => {
  repository.failure = "REPOSITORY_UNREACHABLE";
  await keep();
  await clock.advance(5 * MINUTE);
  expect(told).toEqual([]);
  stopping.abort();
});

test("something is missing in the repository: the pin is looked for at once", async () => {
  await keep();
  repository.there = false;
  await pin.check();
  expect(repository.calls).toEqual(["pin", "isPinned", "pin"]);
  stopping.abort();
});

test("a repository that is away takes no pin away: it is pinned as far as anybody knows, and that it was not seen is said", async () => {
  await keep();
  repository.failure = "REPOSITORY_UNREACHABLE";
  await clock.advance(10 * MINUTE);
  expect(pin.pinned).toBe(true);
  expect(pin.message).toBe("the pin was not seen again: it is REPOSITORY_UNREACHABLE");
  repository.failure = undefined;
  await clock.advance(10 * MINUTE);
  expect(pin).toMatchObject({ pinned: true, message: "" });
  stopping.abort();
});

test("what is removed is not made again", async () => {
  await keep();
  repository.failure = "REPOSITORY_READ_ONLY";
  await expect(pin.remove()).rejects.toMatchObject({ code: "REPOSITORY_READ_ONLY" });
  expect(pin.pinned).toBe(true);
  repository.failure = undefined;
  await pin.remove();
  await clock.advance(60 * MINUTE);
  expect(repository.calls.at(-1)).toBe("unpin");
  expect(pin).toMatchObject({ pinned: false, message: "the pin was removed" });
});
