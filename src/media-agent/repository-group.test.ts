import { expect, test } from "@jest/globals";
import { isTransient, RepositoryError, type RepositoryErrorCode } from "../repository/errors.ts";
import { type GroupedRepository, RepositoryGroup } from "./repository-group.ts";

function holding(answer: RepositoryErrorCode | "content" | undefined): GroupedRepository {
  return {
    async readBlob() {
      if (answer === "content") return Buffer.from("x");
      throw new RepositoryError(answer ?? "REPOSITORY_BLOB_UNKNOWN", "no");
    },
    refreshIndex: async () => undefined,
    knows: () => answer !== undefined,
    place: () => undefined,
  };
}

const codeOf = (repositories: GroupedRepository[]): Promise<unknown> =>
  new RepositoryGroup(repositories).readBlob("a").then(String, (error: unknown) => error);

test("whichever has the blob gives it", async () => {
  expect(await codeOf([holding(undefined), holding("REPOSITORY_UNREACHABLE"), holding("content")])).toBe("x");
  expect(await codeOf([holding(undefined), holding(undefined)])).toMatchObject({ code: "REPOSITORY_BLOB_UNKNOWN" });
});

test.each(["REPOSITORY_UNREACHABLE", "REPOSITORY_FORBIDDEN", "REPOSITORY_NOT_FOUND", "REPOSITORY_UNTRUSTED"] as const)(
  "%s of one is told rather than that another's copy is gone for good",
  async (code) => {
    for (const final of ["REPOSITORY_PACK_MISSING", "REPOSITORY_BLOB_DAMAGED"] as const) {
      for (const group of [
        [holding(code), holding(final)],
        [holding(final), holding(code)],
      ]) {
        const error = await codeOf(group);
        expect(error).toMatchObject({ code });
        expect(isTransient(error)).toBe(true);
      }
    }
  },
);
